"""The store of durable tasks that a database of Django's is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import OperationalError, connections, transaction
from django.db.models import Case, Count, F, Q, QuerySet, When

from bgadapters.adapters import Change, Row, SettingsError, State, Store
from bgadapters.django.commit import outermost_block
from bgadapters.django.durable.clock import now
from bgadapters.django.durable.connection import (
    OwnConnection,
    looking,
    told_as_unavailable,
    was_undone,
)
from bgadapters.django.durable.deletion import AT_ONCE, delete, in_parts, one_of
from bgadapters.django.durable.lease import Lease, bury_the_dead, living_owner
from bgadapters.django.durable.models import Owner, StoredTask
from bgadapters.django.durable.place import Place, has_tables
from bgadapters.django.durable.undecided import Undecided

T = TypeVar("T")

_ATTEMPTS = 5  # where databases end one of two transactions that wait for each other
_IN_ORDER = "added", "queue_id", "position"


class DjangoStore(Store):
    """Keeps durable tasks in the tables of the application ``bgadapters.django.durable``.

    What is kept, changed or taken over is so on a connection of its own. What is added in a
    transaction is written in that, on the connection of the view.

    Args:
        place: which database.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._alias = place.alias
        self._connection = OwnConnection(place.alias)
        self._lease = Lease(place)
        self._undecided = Undecided(place.alias, self._delete_mine)
        self._owner = ""

    # Its life.

    def open(self, owner: str) -> None:
        """Begin to live as an owner.

        Raises:
            SettingsError: the tables are not there.
        """
        self._owner = owner
        with self._connection() as connection:
            self._check_tables(connection)
            self._lease.begin(owner, connection)

    def _check_tables(self, connection: Any) -> None:
        if not has_tables(connection):
            raise SettingsError(
                f"the database {self._alias!r} has no tables for durable tasks: run 'manage.py "
                f"migrate --database {self._alias}'"
            )

    def close(self) -> None:
        """Free what is left, and close the connections."""
        self._lease.stop()

        def free_all() -> None:
            self._mine().update(owner=None, has_begun=False, is_recovered=True)
            self._lease.end()

        self._in_transaction(free_all)
        self._connection.close()

    def forget_connections(self) -> None:
        """In a forked child: leave those of the parent alone."""
        self._connection.forget()
        self._lease.forget()

    # What the writer asks, in its thread.

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        """Keep new tasks and change others, in one transaction."""

        def write() -> list[str]:
            self._lease.write_with_tasks()
            self._insert(rows)
            return self._apply(changes)

        lost = self._in_transaction(write)
        self._lease.is_written = True
        return lost

    def begin(self, task_id: str) -> bool:
        """Note that a task begins."""
        with self._connection():
            return self._waiting(task_id).update(has_begun=True) == 1

    def take_over(self, limit: int) -> list[Row]:
        """Take tasks that no living owner has.

        Whoever has locked the first task of a queue takes the queue, so that two never share one.
        """
        with self._connection():
            dead = self._dead_owners()
            if not (dead or self._free().exists()):
                return []  # SQLite is not locked for nothing

        def take() -> list[Row]:
            self._free_what_they_had(dead)
            self._lease.write_with_tasks()
            bury_the_dead(connections[self._alias])
            firsts = self._firsts_of_queues(min(limit, AT_ONCE))
            won = self._locked(self._free().filter(id__in=list(firsts.values())))
            queues = [queue for queue, first in firsts.items() if first in won]
            return self._taken(self._that_fit(queues, min(limit, AT_ONCE)))

        return self._in_transaction(take)

    def _dead_owners(self) -> list[str]:
        had = self._tasks().filter(state="waiting", owner__isnull=False)
        dead = had.exclude(owner=self._owner).filter(~living_owner())
        return list(dead.order_by().values_list("owner", flat=True).distinct())

    def _free_what_they_had(self, dead: Sequence[str]) -> None:
        """Free it by their names: PostgreSQL would not ask again whether an owner lives.

        It does ask again who the owner is, where another process has just taken a task.
        """
        crashed = When(has_begun=True, then=F("crashes") + 1)
        self._tasks().filter(state="waiting", owner__in=dead).update(
            crashes=Case(crashed, default=F("crashes")),  # before what it asks is changed
            owner=None,
            is_recovered=True,
            has_begun=False,
        )

    def _firsts_of_queues(self, limit: int) -> dict[str, str]:
        """The first task of each queue, by the queue, in the order in which they were begun."""
        firsts: dict[str, str] = {}
        for task_id, queue_id in self._free().values_list("id", "queue_id")[:limit]:
            firsts.setdefault(queue_id, task_id)
        return firsts

    def _locked(self, tasks: QuerySet[StoredTask]) -> set[str]:
        can_skip = connections[self._alias].features.has_select_for_update_skip_locked
        return set(tasks.select_for_update(skip_locked=can_skip).values_list("id", flat=True))

    def _that_fit(self, queues: Sequence[str], limit: int) -> list[str]:
        """The tasks of whole queues, in order; of the first one as many as it may be."""
        tasks: dict[str, list[str]] = {queue: [] for queue in queues}
        found = self._free().filter(queue_id__in=queues).order_by("position", "id")
        for queue, task_id in found.values_list("queue_id", "id"):
            tasks[queue].append(task_id)
        ids: list[str] = []
        for each in tasks.values():
            if ids and len(ids) + len(each) > limit:
                break
            ids += each
        return ids[:limit]

    def _taken(self, ids: Sequence[str]) -> list[Row]:
        self._free().filter(id__in=ids).update(owner=self._owner)
        rows = {row.id: row for row in _rows(self._mine().filter(id__in=ids))}
        return [rows[each] for each in ids if each in rows]

    def _in_transaction(self, work: Callable[[], T]) -> T:
        """Do something in a transaction; again if it was undone in favour of another one."""
        for left in reversed(range(_ATTEMPTS)):
            with self._connection():
                try:
                    with transaction.atomic(self._alias):
                        return work()
                except OperationalError as exc:
                    if not (left and was_undone(exc)):
                        raise
        raise AssertionError

    def _insert(self, rows: Sequence[Row]) -> None:
        tasks = [StoredTask(**row._asdict(), owner=self._owner) for row in rows]
        StoredTask.objects.using(self._alias).bulk_create(tasks)

    # Changes.

    def _apply(self, changes: Sequence[Change]) -> list[str]:
        deleted = [each.id for each in changes if each.kind == "delete"]
        missing = [each.id for each in changes if each.kind != "delete" and not self._change(each)]
        missing += self._delete(deleted)
        if self._lease.was_lost:
            return missing
        lost: list[str] = []
        for part in in_parts(missing):
            theirs = self._tasks().filter(id__in=part).exclude(owner=self._owner)
            lost += theirs.values_list("id", flat=True)
        return lost

    def _delete(self, task_ids: Sequence[str]) -> list[str]:
        """Delete tasks; return those that are not this owner's any more, or not there."""
        missing: list[str] = []
        for part in in_parts(task_ids):
            now_or_never = self._undecided.discard(part)
            there = self._mine().filter(id__in=now_or_never).values_list("id", flat=True)
            missing += set(now_or_never).difference(there)
            self._delete_mine(now_or_never)
        return missing

    def _delete_mine(self, task_ids: Sequence[str]) -> None:
        if task_ids:
            where = f"{one_of(task_ids)} AND owner = %s"
            delete(StoredTask, self._alias, where, [*task_ids, self._owner])

    def _change(self, change: Change) -> bool:
        if change.kind == "claim":
            return self._claim(change)
        values: dict[str, Any] = {"has_begun": False}
        if change.kind == "again":
            values |= {"attempt": change.attempt, "due": change.due}
        else:
            values |= {"owner": None}
        if change.kind == "fail":
            values |= {"state": "failed", "attempt": change.attempt}
            values |= {"failure": change.failure, "ended": time.time()}
        return self._waiting(change.id).update(**values) == 1

    def _claim(self, change: Change) -> bool:
        found = self._waiting(change.id).values_list("key", "claim").first()
        if found is None:
            return False
        key, earlier = found
        if key is None or earlier is not None:  # it has claimed it already
            return True
        claim = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        with self._alone_with(claim):
            others = self._tasks().filter(claim=claim, state="waiting", has_begun=False)
            ids = list(others.values_list("id", flat=True))
            if change.keeps and ids:
                self._delete_mine([change.id])
            else:
                for part in in_parts(ids):
                    where = f"{one_of(part)} AND state = 'waiting' AND NOT has_begun"
                    delete(StoredTask, self._alias, where, part)
                self._waiting(change.id).update(claim=claim)
        return True

    @contextmanager
    def _alone_with(self, claim: str) -> Iterator[None]:
        """Keep other processes from the same claim until this transaction has ended.

        They wait to insert what it has inserted, though that is gone when they come to it.
        """
        lock = Owner(id=claim[:32], expires=0.0)
        Owner.objects.using(self._alias).bulk_create([lock], ignore_conflicts=True)
        yield
        delete(Owner, self._alias, "id = %s", [lock.id])

    # In a view's transaction, in its thread.

    def shares_transaction(self, session: Any) -> bool:
        """Whether this thread is in a transaction of that database, which is not a test's."""
        super().shares_transaction(session)
        for connection in connections.all(initialized_only=True):
            if connection.alias == self._alias:
                return connection.in_atomic_block and outermost_block(connection) is not None
        return False

    def insert_here(self, rows: Sequence[Row], session: Any) -> None:  # noqa: ARG002
        """Keep new tasks in that transaction."""
        with told_as_unavailable():
            self._lease.write_with_tasks()
            self._insert(rows)
        self._undecided.note([row.id for row in rows])

    # To look at tasks and to act on them, on the connection of whoever does.

    def count(self) -> Mapping[State, int]:
        """Return how many tasks there are in each state."""
        with looking(self._alias):
            found = self._tasks().order_by().values_list("state").annotate(Count("id"))
            return {"waiting": 0, "failed": 0, **dict(found)}

    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        """Return tasks, the oldest first."""
        found = self._tasks() if state is None else self._tasks().filter(state=state)
        with looking(self._alias):
            return _rows(found[offset : offset + limit])

    def get(self, task_id: str) -> Row | None:
        """Return a task; None if it is not there."""
        with looking(self._alias):
            return next(iter(_rows(self._tasks().filter(id=task_id))), None)

    def retry(self, task_ids: Sequence[str]) -> int:
        """Have failed tasks run again."""
        with looking(self._alias), transaction.atomic(self._alias):
            return sum(map(self._retry, in_parts(task_ids)))

    def _retry(self, task_ids: Sequence[str]) -> int:
        return (
            self._tasks()
            .filter(id__in=task_ids, state="failed")
            .update(
                state="waiting",
                attempt=1,
                crashes=0,
                due=None,
                failure=None,
                ended=None,
                owner=None,
                has_begun=False,
                claim=None,
            )
        )

    def discard(self, task_ids: Sequence[str]) -> int:
        """Delete tasks that have failed or that no living owner has."""
        with looking(self._alias), transaction.atomic(self._alias):
            return sum(map(self._discard, in_parts(task_ids)))

    def _discard(self, task_ids: Sequence[str]) -> int:
        connection = connections[self._alias]
        owners = connection.ops.quote_name(Owner._meta.db_table)  # noqa: SLF001  published
        living = f"SELECT id FROM {owners} WHERE expires > {now(connection)}"  # noqa: S608
        where = f"{one_of(task_ids)} AND (owner IS NULL OR owner NOT IN ({living}))"
        return delete(StoredTask, self._alias, where, task_ids)

    def purge(self, before: float) -> int:
        """Delete what has failed before a time."""
        with looking(self._alias):
            return delete(StoredTask, self._alias, "state = 'failed' AND ended < %s", [before])

    # Which tasks.

    def _tasks(self) -> QuerySet[StoredTask]:
        return StoredTask.objects.using(self._alias).order_by(*_IN_ORDER)

    def _mine(self) -> QuerySet[StoredTask]:
        return self._tasks().filter(owner=self._owner)

    def _waiting(self, task_id: str) -> QuerySet[StoredTask]:
        return self._mine().filter(id=task_id, state="waiting")

    def _free(self) -> QuerySet[StoredTask]:
        is_due = Q(due=None) | Q(due__lte=time.time())
        return self._tasks().filter(is_due, state="waiting", owner=None)


def _rows(tasks: QuerySet[StoredTask]) -> list[Row]:
    return [Row(*values) for values in tasks.values_list(*Row._fields)]
