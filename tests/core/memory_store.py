"""A store in memory: what is common to several of them stands for a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bgadapters.adapters import Change, Row, State, Store


class Kept:
    """A row, whose it is, and what only a store knows of it."""

    def __init__(self, row: Row, owner: str | None) -> None:
        self.row = row
        self.owner = owner
        self.has_begun = False
        self.claimed = 0


class Database:
    """What survives its processes.

    Attributes:
        kept: the rows, by their ids.
        living: the owners that have not closed.
    """

    def __init__(self) -> None:
        self.kept: dict[str, Kept] = {}
        self.living: set[str] = set()
        self.claims = 0
        self.lock = threading.RLock()

    def ids(self) -> list[str]:
        return list(self.kept)

    def rows(self, state: State = "waiting") -> list[Row]:
        with self.lock:
            return [each.row for each in self.kept.values() if each.row.state == state]

    def kill(self, store: MemoryStore) -> None:
        """The process of a store is no more."""
        self.living.discard(store.owner)


class MemoryStore(Store):
    """Keeps rows in a database.

    Attributes:
        database: what it keeps them in.
        on_call: called first in each method, with its name; may raise, and may block.
        calls: the names of the methods that were called, and what `write` was given.
    """

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or Database()
        self.on_call: Callable[[str], object] = lambda name: None
        self.calls: list[Any] = []
        self.threads: set[str] = set()
        self.owner = ""

    def _called(self, name: str, *what: Any) -> None:
        self.calls.append((name, *what) if what else name)
        self.threads.add(threading.current_thread().name)
        self.on_call(name)

    def open(self, owner: str) -> None:
        self._called("open")
        self.owner = owner
        self.database.living.add(owner)

    def close(self) -> None:
        self._called("close")
        for each in self.database.kept.values():
            if each.owner == self.owner:
                each.owner, each.has_begun = None, False
        self.database.kill(self)

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        self._called("write", [row.name for row in rows], [f"{each.kind}" for each in changes])
        with self.database.lock:
            for row in rows:
                self.database.kept[row.id] = Kept(row, self.owner)
            return [each.id for each in changes if not self._changed(each)]

    def _changed(self, change: Change) -> bool:
        kept = self.database.kept.get(change.id)
        if kept is None:
            return True
        if kept.owner != self.owner:
            return False
        if change.kind == "delete":
            del self.database.kept[change.id]
        elif change.kind == "free":
            kept.owner = None
        elif change.kind == "again":
            kept.has_begun = False
            kept.row = kept.row._replace(attempt=change.attempt, due=change.due)
        elif change.kind == "fail":
            kept.row = kept.row._replace(
                state="failed", attempt=change.attempt, failure=change.failure, ended=time.time()
            )
            kept.owner = None
        else:
            self._claim(kept, change)
        return True

    def _claim(self, kept: Kept, change: Change) -> None:
        if kept.claimed:
            return
        self.database.claims += 1
        kept.claimed = self.database.claims
        others = [
            each
            for each in self.database.kept.values()
            if each is not kept
            and each.row.key == kept.row.key
            and each.claimed
            and not each.has_begun
            and each.row.state == "waiting"
        ]
        for each in [kept] if change.keeps and others else others:
            del self.database.kept[each.row.id]

    def begin(self, task_id: str) -> bool:
        self._called("begin")
        kept = self.database.kept.get(task_id)
        if kept is None or kept.owner != self.owner:
            return False
        kept.has_begun = True
        return True

    def take_over(self, limit: int) -> list[Row]:
        self._called("take_over", limit)
        with self.database.lock:
            for each in self.database.kept.values():
                if each.owner is not None and each.owner not in self.database.living:
                    crashes = each.row.crashes + each.has_begun
                    each.row = each.row._replace(crashes=crashes, is_recovered=True)
                    each.owner, each.has_begun = None, False
            free = [each for each in self.database.kept.values() if self._is_free(each)]
            free.sort(key=lambda each: (each.row.added, each.row.queue_id, each.row.position))
            for each in free[:limit]:
                each.owner = self.owner
            return [each.row for each in free[:limit]]

    def _is_free(self, kept: Kept) -> bool:
        row = kept.row
        is_due = row.due is None or row.due <= time.time()
        return kept.owner is None and row.state == "waiting" and is_due

    def forget_connections(self) -> None:
        self._called("forget_connections")

    def count(self) -> Mapping[State, int]:
        return {"waiting": len(self.database.rows()), "failed": len(self.database.rows("failed"))}

    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        rows = [each.row for each in self.database.kept.values()]
        found = [row for row in rows if state is None or row.state == state]
        return found[offset : offset + limit]

    def get(self, task_id: str) -> Row | None:
        kept = self.database.kept.get(task_id)
        return None if kept is None else kept.row

    def retry(self, task_ids: Sequence[str]) -> int:
        raise NotImplementedError

    def discard(self, task_ids: Sequence[str]) -> int:
        raise NotImplementedError

    def purge(self, before: float) -> int:
        raise NotImplementedError


class TransactionalStore(MemoryStore):
    """One that writes in somebody's transaction, if one is open.

    Attributes:
        transaction: the rows that were written in it; None if none is open.
    """

    def __init__(self, database: Database | None = None) -> None:
        super().__init__(database)
        self.transaction: list[Row] | None = None

    def shares_transaction(self, session: Any) -> bool:
        return (
            self.transaction is not None if session is None else super().shares_transaction(session)
        )

    def insert_here(self, rows: Sequence[Row], session: Any) -> None:
        self._called("insert_here")
        assert self.transaction is not None
        self.transaction += rows
        for row in rows:
            self.database.kept[row.id] = Kept(row, self.owner)
