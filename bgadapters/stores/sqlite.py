"""Durable tasks in a file of SQLite, shared by the processes of one machine."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from bgadapters.core.outbox.store import Change, Row, State, Store

_TABLE = """
CREATE TABLE IF NOT EXISTS tasks (
  id TEXT PRIMARY KEY, queue_id TEXT NOT NULL, position INTEGER NOT NULL, added REAL NOT NULL,
  payload TEXT NOT NULL, name TEXT NOT NULL, key TEXT, priority INTEGER NOT NULL, due REAL,
  attempt INTEGER NOT NULL, crashes INTEGER NOT NULL, is_recovered INTEGER NOT NULL,
  state TEXT NOT NULL, failure TEXT, ended REAL, owner TEXT, has_begun INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_owner ON tasks (state, owner);
"""
_COLUMNS = ", ".join(Row._fields)
_INSERT = f"INSERT INTO tasks ({_COLUMNS}, owner) VALUES ({', '.join('?' * 15)}, ?)"  # noqa: S608


class SQLiteStore(Store):
    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = Path(unquote(parts.path.removeprefix("/")))
        query = parse_qs(parts.query)
        self._synchronous = query.get("synchronous", ["FULL"])[0].upper()
        self._connection: sqlite3.Connection | None = None
        self._owner = ""
        self._lock_file: int | None = None

    def open(self, owner: str) -> None:
        self._owner = owner
        connection = sqlite3.connect(
            self._path, timeout=10, isolation_level=None, check_same_thread=False
        )
        os.chmod(self._path, 0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.executescript(_TABLE)
        self._connection = connection
        self._owners.mkdir(exist_ok=True)
        self._lock_file = os.open(self._owners / owner, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.lockf(self._lock_file, fcntl.LOCK_EX)

    @property
    def _owners(self) -> Path:
        return self._path.with_name(self._path.name + "-owners")

    def close(self) -> None:
        assert self._connection is not None
        self._connection.execute("UPDATE tasks SET owner = NULL WHERE owner = ?", (self._owner,))
        self._connection.close()
        os.unlink(self._owners / self._owner)

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        c = self._connection
        assert c is not None
        c.execute("BEGIN IMMEDIATE")
        lost = []
        try:
            c.executemany(_INSERT, [(*row, self._owner) for row in rows])
            for change in changes:
                lost += self._change(c, change)
        except BaseException:
            c.execute("ROLLBACK")
            raise
        c.execute("COMMIT")
        return lost

    def _change(self, c, change):
        who = (change.id, self._owner)
        if change.kind == "delete":
            c.execute("DELETE FROM tasks WHERE id = ? AND owner = ?", who)
        elif change.kind == "free":
            c.execute("UPDATE tasks SET owner = NULL WHERE id = ? AND owner = ?", who)
        elif change.kind == "again":
            c.execute(
                "UPDATE tasks SET attempt = ?, due = ? WHERE id = ? AND owner = ?",
                (change.attempt, change.due, *who),
            )
        else:
            c.execute(
                "UPDATE tasks SET state = 'failed', attempt = ?, failure = ?, ended = ?, owner = NULL WHERE id = ? AND owner = ?",
                (change.attempt, change.failure, time.time(), *who),
            )
        return []

    def begin(self, task_id: str) -> bool:
        c = self._connection
        return (
            c.execute(
                "UPDATE tasks SET has_begun = 1 WHERE id = ? AND owner = ?", (task_id, self._owner)
            ).rowcount
            == 1
        )

    def take_over(self, limit: int) -> list[Row]:
        c = self._connection
        owners = [
            each
            for (each,) in c.execute(
                "SELECT DISTINCT owner FROM tasks WHERE state = 'waiting' AND owner IS NOT NULL"
            )
        ]
        for owner in owners:
            if owner != self._owner and not self._lives(owner):
                c.execute(
                    "UPDATE tasks SET owner = NULL, crashes = crashes + has_begun, is_recovered = 1, has_begun = 0 WHERE owner = ?",
                    (owner,),
                )
        rows = c.execute(
            f"UPDATE tasks SET owner = ? WHERE id IN (SELECT id FROM tasks WHERE state = 'waiting' AND owner IS NULL ORDER BY added, queue_id, position LIMIT ?) RETURNING {_COLUMNS}",
            (self._owner, limit),
        ).fetchall()
        return sorted(
            (Row(*row) for row in rows), key=lambda row: (row.added, row.queue_id, row.position)
        )

    def _lives(self, owner: str) -> bool:
        try:
            file = os.open(self._owners / owner, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            os.unlink(self._owners / owner)
            return False
        finally:
            os.close(file)

    def _look(self):
        return sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, isolation_level=None)

    def count(self) -> Mapping[State, int]:
        return dict(self._look().execute("SELECT state, count(*) FROM tasks GROUP BY state"))

    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        rows = self._look().execute(
            f"SELECT {_COLUMNS} FROM tasks WHERE state = coalesce(?, state) ORDER BY added, queue_id, position LIMIT ? OFFSET ?",
            (state, limit, offset),
        )
        return [Row(*row) for row in rows]

    def get(self, task_id: str) -> Row | None:
        rows = self._look().execute(f"SELECT {_COLUMNS} FROM tasks WHERE id = ?", (task_id,))
        return next((Row(*row) for row in rows), None)

    def retry(self, task_ids: Sequence[str]) -> int:
        c = self._look()
        return sum(
            c.execute(
                "UPDATE tasks SET state = 'waiting', attempt = 1, crashes = 0, failure = NULL, ended = NULL, owner = NULL, due = NULL WHERE id = ? AND state = 'failed'",
                (each,),
            ).rowcount
            for each in task_ids
        )

    def discard(self, task_ids: Sequence[str]) -> int:
        c = self._look()
        return sum(
            c.execute(
                "DELETE FROM tasks WHERE id = ? AND (state = 'failed' OR owner IS NULL)", (each,)
            ).rowcount
            for each in task_ids
        )

    def purge(self, before: float) -> int:
        c = self._look()
        return c.execute(
            "DELETE FROM tasks WHERE state = 'failed' AND ended < ?", (before,)
        ).rowcount
