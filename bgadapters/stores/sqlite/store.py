"""Durable tasks in a file of SQLite: what is asked of it, in SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby, islice
from typing import Any, TypeVar

from bgadapters.adapters import Change, Row, State, Store, StoreUnavailableError
from bgadapters.stores.sqlite.database import Database
from bgadapters.stores.sqlite.location import location_of
from bgadapters.stores.sqlite.owners import Owners

_FIELDS = len(Row._fields)
_COLUMNS = ", ".join(Row._fields)
_MARKS = ", ".join("?" * (_FIELDS + 1))
_INSERT = f"INSERT INTO tasks ({_COLUMNS}, owner) VALUES ({_MARKS})"  # noqa: S608  constants

# Nearly all rows are new ones with nothing special: then what is the same in all of them is in the
# statement. And one statement for many rows gives other threads the interpreter once.
_GIVEN = _FIELDS - len(Row._field_defaults)
_USUAL = tuple(Row._field_defaults.values())
_INSERT_USUAL = f"INSERT INTO tasks ({_COLUMNS}, owner) VALUES "  # noqa: S608
_USUAL_MARKS = f"({'?, ' * _GIVEN}NULL, 0, NULL, 1, 0, 0, 'waiting', NULL, NULL, ?)"
_AT_ONCE = 100  # rows of one statement
_SELECT = f"SELECT {_COLUMNS} FROM tasks"  # noqa: S608
_IS_FAILED = "state = 'failed'"
_WHERE: dict[State | None, str] = {
    None: "",
    "waiting": " WHERE state = 'waiting'",
    "failed": f" WHERE {_IS_FAILED}",
}

_MINE = "WHERE id = :id AND owner = :owner AND state = 'waiting'"
_DELETE = "DELETE FROM tasks WHERE owner = ? AND state = 'waiting' AND id IN "
_CHANGES = {
    "again": f"UPDATE tasks SET attempt = :attempt, due = :due, has_begun = 0 {_MINE}",  # noqa: S608
    "fail": (
        "UPDATE tasks SET state = 'failed', attempt = :attempt, failure = :failure, "  # noqa: S608
        f"ended = :now, owner = NULL, has_begun = 0 {_MINE}"
    ),
    "free": f"UPDATE tasks SET owner = NULL, has_begun = 0 {_MINE}",  # noqa: S608
}
_BEGIN = f"UPDATE tasks SET has_begun = 1 {_MINE}"  # noqa: S608
_HAS_ANOTHER_OWNER = "SELECT 1 FROM tasks WHERE id = ? AND owner IS NOT ?"
_CLAIMED = f"SELECT key, is_claimed FROM tasks {_MINE}"  # noqa: S608
_RIVALS = (
    "FROM tasks WHERE key = ? AND id <> ? AND state = 'waiting' AND is_claimed AND NOT has_begun"
)

_CLOSE = (
    "UPDATE tasks SET owner = NULL, is_recovered = 1, has_begun = 0 "
    "WHERE owner = ? AND state = 'waiting'"
)
_NEXT_OWNER = "SELECT min(owner) FROM tasks WHERE state = 'waiting' AND owner > ?"
_NEXT = "SELECT number, queue_id FROM tasks WHERE state = 'waiting' AND owner IS ? AND"
_OLDEST = f"{_NEXT} due IS NULL ORDER BY number LIMIT ?"
_DUE = f"{_NEXT} due <= ? ORDER BY due LIMIT ?"
_QUEUE = (
    f"SELECT {_COLUMNS}, owner, has_begun, number FROM tasks "  # noqa: S608
    "WHERE state = 'waiting' AND queue_id = ? AND (due IS NULL OR due <= ?) ORDER BY position"
)
_TAKE = "UPDATE tasks SET owner = ?, crashes = ?, is_recovered = ?, has_begun = 0 WHERE number = ?"
_RETRY = (
    "UPDATE tasks SET state = 'waiting', attempt = 1, crashes = 0, due = NULL, failure = NULL, "  # noqa: S608
    f"ended = NULL, is_claimed = 0 WHERE id = ? AND {_IS_FAILED}"
)


_T = TypeVar("_T")


class SQLiteStore(Store):
    """Keeps durable tasks in a file, for all processes of one machine.

    Which of them live, an operating system's lock of each tells: what one had that was killed is
    free at once. The locks, and the log of transactions, are files beside it.

    Args:
        url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``, with options:
            ``synchronous`` is ``FULL`` by default, so that tasks survive a loss of power. With
            ``NORMAL`` those of the last moments before it do not; they survive the end of
            processes all the same. ``busy_timeout`` is the seconds for which others may lock the
            file; default 10.

    Raises:
        SettingsError: the URL is none of these.
    """

    is_for_any_thread = True

    def __init__(self, url: str) -> None:
        self._database = Database(location_of(url))
        self._owners = Owners(f"{self._database.path}-owners")
        self._owner: str | None = None

    def open(self, owner: str) -> None:
        """Connect. See `Store.open`."""
        self._database.connect()
        try:
            with self._database.told:
                self._owners.begin(owner)
        except BaseException:
            self._database.disconnect()
            raise
        self._owner = owner

    def close(self) -> None:
        """Free what this owner has. See `Store.close`."""
        owner, self._owner = self._owner, None
        try:
            if owner is not None:
                with self._database.writing() as connection:
                    connection.execute(_CLOSE, (owner,))
        finally:
            with self._database.told:
                self._owners.end()
            self._database.disconnect()

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        """Keep new tasks and change others. See `Store.write`."""
        owner = self._open_owner()
        if rows and not changes and len(rows) <= _AT_ONCE and all(map(_is_usual, rows)):
            self._database.insert(*_usual(owner, rows), len(rows))
            return ()
        with self._database.writing(at_once=bool(rows)) as connection:
            for is_usual, group in groupby(rows, key=_is_usual):
                if is_usual:
                    _insert_usual(connection, owner, list(group))
                else:
                    connection.executemany(_INSERT, ((*row, owner) for row in group))
            return _changed(connection, owner, changes)

    def begin(self, task_id: str) -> bool:
        """Note that a task begins. See `Store.begin`."""
        mine = {"id": task_id, "owner": self._open_owner()}
        with self._database.writing() as connection:
            return connection.execute(_BEGIN, mine).rowcount == 1

    def take_over(self, limit: int) -> list[Row]:
        """Take what no living owner has. See `Store.take_over`.

        A queue with more tasks than the limit is split: the rest of it is there the next time.
        Another one that does not fit in is left as it is.
        """
        owner, now = self._open_owner(), time.time()
        with self._database.using() as connection:
            takeable = {None, *self._dead(connection)}
            if not _heads(connection, takeable, now, 1):
                return []  # without a lock that others would wait for
        with self._database.writing() as connection:
            return _taken(connection, owner, takeable, now, limit)

    def forget_connections(self) -> None:
        """In a forked child: let go of the parent's. See `Store.forget_connections`."""
        self._database.forget()
        self._owners.forget()
        self._owner = None

    def count(self) -> Mapping[State, int]:
        """Return how many tasks there are. See `Store.count`."""
        sql = "SELECT count(*) FROM tasks"
        with self._database.using() as connection:
            waiting, failed = (
                connection.execute(sql + _WHERE[state]).fetchone()[0]
                for state in ("waiting", "failed")
            )
        return {"waiting": waiting, "failed": failed}

    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        """Return tasks, the oldest first. See `Store.find`."""
        sql = f"{_SELECT}{_WHERE[state]} ORDER BY number LIMIT ? OFFSET ?"
        with self._database.using() as connection:
            return [_row(fields) for fields in connection.execute(sql, (limit, offset))]

    def get(self, task_id: str) -> Row | None:
        """Return a task. See `Store.get`."""
        with self._database.using() as connection:
            fields = connection.execute(f"{_SELECT} WHERE id = ?", (task_id,)).fetchone()
        return None if fields is None else _row(fields)

    def retry(self, task_ids: Sequence[str]) -> int:
        """Have failed tasks run again. See `Store.retry`."""
        with self._database.writing() as connection:
            return connection.executemany(_RETRY, ((each,) for each in task_ids)).rowcount

    def discard(self, task_ids: Sequence[str]) -> int:
        """Delete what nobody will run. See `Store.discard`."""
        with self._database.writing() as connection:
            dead = self._dead(connection)
            marks = ", ".join("?" * len(dead))
            sql = (
                "DELETE FROM tasks WHERE id = ? "  # noqa: S608  marks alone
                f"AND (owner IS NULL OR owner IN ({marks}))"
            )
            return connection.executemany(sql, ((each, *dead) for each in task_ids)).rowcount

    def purge(self, before: float) -> int:
        """Delete what has failed before a time. See `Store.purge`."""
        sql = f"DELETE FROM tasks WHERE {_IS_FAILED} AND ended < ?"  # noqa: S608
        with self._database.writing() as connection:
            return connection.execute(sql, (before,)).rowcount

    def _open_owner(self) -> str:
        if self._owner is None:
            raise StoreUnavailableError(f"the store {self._database.path} is not open")
        return self._owner

    def _dead(self, connection: sqlite3.Connection) -> list[str]:
        """Return the owners that have tasks and do not live."""
        found: list[str] = []
        owner = ""
        while owner := connection.execute(_NEXT_OWNER, (owner,)).fetchone()[0]:
            if not self._owners.lives(owner):
                found.append(owner)
        return found


def _row(fields: Sequence[Any]) -> Row:
    row = Row(*fields)
    return row._replace(is_recovered=bool(row.is_recovered))


def _is_usual(row: Row) -> bool:
    return row[_GIVEN:] == _USUAL


def _insert_usual(connection: sqlite3.Connection, owner: str, rows: Sequence[Row]) -> None:
    for some in _parts(rows):
        connection.execute(*_usual(owner, some))


def _usual(owner: str, rows: Sequence[Row]) -> tuple[str, list[object]]:
    """Return the statement that inserts usual rows, and its values."""
    marks = ", ".join([_USUAL_MARKS] * len(rows))
    return _INSERT_USUAL + marks, [value for row in rows for value in (*row[:_GIVEN], owner)]


def _deleted(connection: sqlite3.Connection, owner: str, task_ids: Sequence[str]) -> int:
    """Delete tasks of this owner; return how many of them there were."""
    return sum(
        connection.execute(f"{_DELETE}({', '.join('?' * len(some))})", (owner, *some)).rowcount
        for some in _parts(task_ids)
    )


def _parts(all_of_them: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(all_of_them), _AT_ONCE):
        yield all_of_them[start : start + _AT_ONCE]


def _changed(connection: sqlite3.Connection, owner: str, changes: Sequence[Change]) -> list[str]:
    """Make changes in their order; return the ids of those that did not count."""
    lost: list[str] = []
    for kind, group in groupby(changes, key=lambda change: change.kind):
        alike = list(group)
        if kind == "claim":
            done = sum(_claim(connection, owner, each) for each in alike)
        elif kind == "delete":
            done = _deleted(connection, owner, [each.id for each in alike])
        else:
            now = time.time()
            done = connection.executemany(
                _CHANGES[kind], ({**each._asdict(), "owner": owner, "now": now} for each in alike)
            ).rowcount
        if done < len(alike):
            lost += _lost(connection, owner, (each.id for each in alike))
    return lost


def _lost(connection: sqlite3.Connection, owner: str, task_ids: Iterable[str]) -> list[str]:
    return [
        each
        for each in task_ids
        if connection.execute(_HAS_ANOTHER_OWNER, (each, owner)).fetchone()
    ]


def _claim(connection: sqlite3.Connection, owner: str, change: Change) -> bool:
    """Have one task of a key stay; False if this one is not this owner's."""
    found = connection.execute(_CLAIMED, {"id": change.id, "owner": owner}).fetchone()
    if found is None:
        return False
    key, is_claimed = found
    if is_claimed:
        return True  # and has not lost since then
    if change.keeps and connection.execute(f"SELECT 1 {_RIVALS}", (key, change.id)).fetchone():
        connection.execute("DELETE FROM tasks WHERE id = ?", (change.id,))
        return True
    connection.execute(f"DELETE {_RIVALS}", (key, change.id))
    connection.execute("UPDATE tasks SET is_claimed = 1 WHERE id = ?", (change.id,))
    return True


def _heads(
    connection: sqlite3.Connection, owners: set[str | None], now: float, limit: int
) -> list[tuple[int, str]]:
    """Return the numbers and queues of the tasks of some owners that come first, in their order."""
    found: list[tuple[int, str]] = []
    for owner in owners:
        found += connection.execute(_OLDEST, (owner, limit))
        found += connection.execute(_DUE, (owner, now, limit))
    return sorted(found)


def _taken(
    connection: sqlite3.Connection,
    owner: str,
    takeable: set[str | None],
    now: float,
    limit: int,
) -> list[Row]:
    taken: list[Row] = []
    updates: list[tuple[Any, ...]] = []
    heads = _heads(connection, takeable, now, limit)
    for queue_id in dict.fromkeys(queue_id for _, queue_id in heads):
        room = limit - len(taken)
        with closing(connection.execute(_QUEUE, (queue_id, now))) as queue:
            found = list(islice((each for each in queue if each[_FIELDS] in takeable), room + 1))
        if len(found) > room and taken:
            break
        for fields in found[:room]:
            row, (had, has_begun, number) = _row(fields[:_FIELDS]), fields[_FIELDS:]
            row = row._replace(
                crashes=row.crashes + has_begun, is_recovered=row.is_recovered or had is not None
            )
            taken.append(row)
            updates.append((owner, row.crashes, row.is_recovered, number))
    connection.executemany(_TAKE, updates)
    return taken
