"""Durable tasks in a file of SQLite: what is asked of it, in SQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, TypeVar

from bgadapters.adapters import Change, Row, State, Store, StoreUnavailableError
from bgadapters.stores.sqlite.database import Database
from bgadapters.stores.sqlite.location import location_of
from bgadapters.stores.sqlite.mine import BITS, Mine
from bgadapters.stores.sqlite.owners import Owners

_FIELDS = len(Row._fields)
_COLUMNS = ", ".join(Row._fields)
_MARKS = ", ".join("?" * (_FIELDS + 2))
_INSERT = f"INSERT INTO tasks ({_COLUMNS}, owner, number) VALUES ({_MARKS})"  # noqa: S608  constants

# Nearly all rows are new ones with nothing special: then what is the same in all of them is in the
# statement. And one statement for many rows gives other threads the interpreter once.
_GIVEN = _FIELDS - len(Row._field_defaults)
_USUAL = tuple(Row._field_defaults.values())
_INSERT_USUAL = f"INSERT INTO tasks ({_COLUMNS}, owner, number) VALUES "  # noqa: S608
_USUAL_MARKS = f"({'?, ' * _GIVEN}NULL, 0, NULL, 1, 0, 0, 'waiting', NULL, NULL, ?, ?)"
_AT_ONCE = 100  # rows of one statement
_SELECT = f"SELECT {_COLUMNS} FROM tasks"  # noqa: S608
_IS_FAILED = "state = 'failed'"
_WHERE: dict[State | None, str] = {
    None: "",
    "waiting": " WHERE state = 'waiting'",
    "failed": f" WHERE {_IS_FAILED}",
}

_MINE = "WHERE number = :number AND owner = :owner AND state = 'waiting'"
_DELETE = "DELETE FROM tasks WHERE owner = ? AND state = 'waiting' AND number IN "
_CHANGES = {
    "again": f"UPDATE tasks SET attempt = :attempt, due = :due, has_begun = 0 {_MINE}",  # noqa: S608
    "fail": (
        "UPDATE tasks SET state = 'failed', attempt = :attempt, failure = :failure, "  # noqa: S608
        f"ended = :now, owner = NULL, has_begun = 0 {_MINE}"
    ),
    "free": f"UPDATE tasks SET owner = NULL, has_begun = 0 {_MINE}",  # noqa: S608
}
_BEGIN = f"UPDATE tasks SET has_begun = 1 {_MINE}"  # noqa: S608
_HAS_ANOTHER_OWNER = "SELECT 1 FROM tasks WHERE number = ? AND owner IS NOT ?"
_IS_THERE = "SELECT 1 FROM tasks WHERE id = ?"
_CLAIMED = f"SELECT key, is_claimed FROM tasks {_MINE}"  # noqa: S608
_RIVALS = (
    "FROM tasks WHERE key = ? AND number <> ? AND state = 'waiting' AND is_claimed "
    "AND NOT has_begun"
)

_FREE = "UPDATE tasks SET owner = NULL, is_recovered = 1, crashes = crashes + {}, has_begun = 0 "
_HAS_ADDED = "WHERE number BETWEEN ? AND ? AND owner = ?"
_HAS_TAKEN = f"WHERE owner = ? AND owner <> number >> {BITS}"  # as in the index
_IS_FREE = "state = 'waiting' AND owner IS NULL"
_NEXT = f"SELECT added, number, queue_id FROM tasks WHERE {_IS_FREE} AND"  # noqa: S608
_OLDEST = f"{_NEXT} due IS NULL ORDER BY added LIMIT ?"
_DUE = f"{_NEXT} due <= ? ORDER BY due LIMIT ?"
_QUEUE = (
    f"SELECT {_COLUMNS}, number FROM tasks "  # noqa: S608
    f"WHERE {_IS_FREE} AND queue_id = ? AND (due IS NULL OR due <= ?) ORDER BY position"
)
_TAKE = "UPDATE tasks SET owner = ? WHERE number = ?"
_ENTER = "INSERT INTO owners (name) VALUES (?)"
_LAST = {"delete", "fail", "free"}
"""Changes after which a task is its owner's no longer."""
_DISCARD = "DELETE FROM tasks WHERE id = ? AND owner IS NULL"
_RETRY = (
    "UPDATE tasks SET state = 'waiting', attempt = 1, crashes = 0, due = NULL, failure = NULL, "  # noqa: S608
    f"ended = NULL, is_claimed = 0 WHERE id = ? AND owner IS NULL AND {_IS_FAILED}"
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
        self._mine: Mine | None = None

    def open(self, owner: str) -> None:
        """Connect. See `Store.open`."""
        self._database.connect()
        try:
            with self._database.told:
                self._owners.begin(owner)
            with self._database.writing() as connection:  # others see an owner that lives
                number = connection.execute(_ENTER, (owner,)).lastrowid
        except BaseException:
            self._owners.end()
            self._database.disconnect()
            raise
        self._mine = Mine(number or 0)

    def close(self) -> None:
        """Free what this owner has. See `Store.close`."""
        mine, self._mine = self._mine, None
        try:
            if mine is not None:
                with self._database.writing() as connection:
                    _leave(connection, mine.owner, crashes="0")
        finally:
            with self._database.told:
                self._owners.end()
            self._database.disconnect()

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        """Keep new tasks and change others. See `Store.write`."""
        mine = self._open_mine()
        numbers = mine.add(rows)
        try:
            lost = self._written(mine, rows, numbers, changes)
        except BaseException:
            mine.forget(row.id for row in rows)
            raise
        if changes:
            mine.forget(each.id for each in changes if each.kind in _LAST)
        return lost

    def _written(
        self, mine: Mine, rows: Sequence[Row], numbers: Sequence[int], changes: Sequence[Change]
    ) -> Sequence[str]:
        if not changes and 0 < len(rows) <= _AT_ONCE:
            values, size = _usual_values(mine.owner, rows, numbers)
            if values:
                self._database.insert(_insert_usual(len(rows)), values, len(rows), size)
                return ()
        numbered = list(zip(rows, numbers, strict=True))
        size = sum(len(row.payload) for row in rows)
        with self._database.writing(at_once=bool(rows), size=size) as connection:
            for is_usual, group in groupby(numbered, key=lambda each: _is_usual(each[0])):
                if is_usual:
                    for some in _parts(list(group)):
                        values, _ = _usual_values(mine.owner, *zip(*some, strict=True))
                        connection.execute(_insert_usual(len(some)), values)
                else:
                    special = ((*row, mine.owner, number) for row, number in group)
                    connection.executemany(_INSERT, special)
            return _changed(connection, mine, changes)

    def begin(self, task_id: str) -> bool:
        """Note that a task begins. See `Store.begin`."""
        mine = self._open_mine()
        values = {"number": mine.number_of(task_id), "owner": mine.owner}
        with self._database.writing() as connection:
            return connection.execute(_BEGIN, values).rowcount == 1

    def take_over(self, limit: int) -> list[Row]:
        """Take what no living owner has. See `Store.take_over`.

        A queue with more tasks than the limit is split: the rest of it is there the next time.
        Another one that does not fit in is left as it is.
        """
        mine, now = self._open_mine(), time.time()
        with self._database.using() as connection:
            if not (self._dead(connection) or _heads(connection, now, 1)):
                return []  # without a lock that others would wait for
        with self._database.writing() as connection:
            self._bury(connection)
            taken = _taken(connection, mine.owner, now, limit)
        for row, number in taken:
            mine.take(row.id, number)
        return [row for row, _ in taken]

    def forget_connections(self) -> None:
        """In a forked child: let go of the parent's. See `Store.forget_connections`."""
        self._database.forget()
        self._owners.forget()
        self._mine = None

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
        sql = f"{_SELECT}{_WHERE[state]} ORDER BY added, number LIMIT ? OFFSET ?"
        with self._database.using() as connection:
            return [_row(fields) for fields in connection.execute(sql, (limit, offset))]

    def get(self, task_id: str) -> Row | None:
        """Return a task. See `Store.get`.

        One that another living owner has is looked for in all of the file.
        """
        mine = self._mine
        number = None if mine is None else mine.number_of(task_id)
        ways: Sequence[tuple[str, object]] = (
            ((f"{_SELECT} WHERE number = ?", number),)
            if number is not None
            else (
                (f"{_SELECT} WHERE id = ? AND owner IS NULL", task_id),
                (f"{_SELECT} WHERE id = ?", task_id),
            )
        )
        with self._database.using() as connection:
            for sql, value in ways:
                fields = connection.execute(sql, (value,)).fetchone()
                if fields is not None:
                    return _row(fields)
        return None

    def retry(self, task_ids: Sequence[str]) -> int:
        """Have failed tasks run again. See `Store.retry`."""
        with self._database.writing() as connection:
            return connection.executemany(_RETRY, ((each,) for each in task_ids)).rowcount

    def discard(self, task_ids: Sequence[str]) -> int:
        """Delete what nobody will run. See `Store.discard`."""
        with self._database.writing() as connection:
            self._bury(connection)
            return connection.executemany(_DISCARD, ((each,) for each in task_ids)).rowcount

    def purge(self, before: float) -> int:
        """Delete what has failed before a time. See `Store.purge`."""
        sql = f"DELETE FROM tasks WHERE {_IS_FAILED} AND ended < ?"  # noqa: S608
        with self._database.writing() as connection:
            return connection.execute(sql, (before,)).rowcount

    def _open_mine(self) -> Mine:
        if self._mine is None:
            raise StoreUnavailableError(f"the store {self._database.path} is not open")
        return self._mine

    def _dead(self, connection: sqlite3.Connection) -> list[int]:
        """Return the owners that do not live and have not left."""
        owners = connection.execute("SELECT number, name FROM owners").fetchall()
        return [number for number, name in owners if not self._owners.lives(name)]

    def _bury(self, connection: sqlite3.Connection) -> None:
        """Free what the dead have. What had begun has crashed."""
        for number in self._dead(connection):
            _leave(connection, number, crashes="has_begun")


def _row(fields: Sequence[Any]) -> Row:
    row = Row(*fields)
    return row._replace(is_recovered=bool(row.is_recovered))


def _is_usual(row: Row) -> bool:
    return row[_GIVEN:] == _USUAL


def _leave(connection: sqlite3.Connection, owner: int, crashes: str) -> None:
    """Free what an owner has, and forget it."""
    free = _FREE.format(crashes)
    first = owner << BITS
    connection.execute(free + _HAS_ADDED, (first, first + (1 << BITS), owner))
    connection.execute(free + _HAS_TAKEN, (owner,))
    connection.execute("DELETE FROM owners WHERE number = ?", (owner,))


@cache  # there are no more of them than `_AT_ONCE`
def _insert_usual(rows: int) -> str:
    return _INSERT_USUAL + ", ".join([_USUAL_MARKS] * rows)


@cache
def _delete(rows: int) -> str:
    return f"{_DELETE}({', '.join('?' * rows)})"


def _usual_values(
    owner: int, rows: Sequence[Row], numbers: Sequence[int]
) -> tuple[list[object], int]:
    """Return the values that insert usual rows, and about how many bytes of them may be large.

    No values if one of the rows is not usual.
    """
    values: list[object] = []
    size = 0
    for row, number in zip(rows, numbers, strict=True):
        if row[_GIVEN:] != _USUAL:
            return [], 0
        values += row[:_GIVEN]
        values += (owner, number)
        size += len(row.payload)
    return values, size


def _deleted(connection: sqlite3.Connection, owner: int, numbers: Sequence[int]) -> int:
    """Delete tasks of this owner; return how many of them there were."""
    return sum(
        connection.execute(_delete(len(some)), (owner, *some)).rowcount for some in _parts(numbers)
    )


def _parts(all_of_them: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(all_of_them), _AT_ONCE):
        yield all_of_them[start : start + _AT_ONCE]


def _changed(connection: sqlite3.Connection, mine: Mine, changes: Sequence[Change]) -> list[str]:
    """Make changes in their order; return the ids of those that did not count."""
    lost: list[str] = []
    for kind, group in groupby(changes, key=attrgetter("kind")):
        alike = list(group)
        known: list[tuple[int, Change]] = []
        for each in alike:
            number = mine.number_of(each.id)
            if number is not None:
                known.append((number, each))
        if kind == "claim":
            done = sum(_claim(connection, mine.owner, *each) for each in known)
        elif kind == "delete":
            done = _deleted(connection, mine.owner, [number for number, _ in known])
        else:
            beside = {"owner": mine.owner, "now": time.time()}
            values = ({**each._asdict(), **beside, "number": number} for number, each in known)
            done = connection.executemany(_CHANGES[kind], values).rowcount
        if done < len(alike):
            lost += (each.id for each in alike if _is_lost(connection, mine, each.id))
    return lost


def _is_lost(connection: sqlite3.Connection, mine: Mine, task_id: str) -> bool:
    """Whether a task is there, and is not this owner's."""
    number = mine.number_of(task_id)
    if number is None:
        return connection.execute(_IS_THERE, (task_id,)).fetchone() is not None
    return connection.execute(_HAS_ANOTHER_OWNER, (number, mine.owner)).fetchone() is not None


def _claim(connection: sqlite3.Connection, owner: int, number: int, change: Change) -> bool:
    """Have one task of a key stay; False if this one is not this owner's."""
    found = connection.execute(_CLAIMED, {"number": number, "owner": owner}).fetchone()
    if found is None:
        return False
    key, is_claimed = found
    if is_claimed:
        return True  # and has not lost since then
    if change.keeps and connection.execute(f"SELECT 1 {_RIVALS}", (key, number)).fetchone():
        connection.execute("DELETE FROM tasks WHERE number = ?", (number,))
        return True
    connection.execute(f"DELETE {_RIVALS}", (key, number))
    connection.execute("UPDATE tasks SET is_claimed = 1 WHERE number = ?", (number,))
    return True


def _heads(connection: sqlite3.Connection, now: float, limit: int) -> list[tuple[float, int, str]]:
    """Return when, with which number and in which queue what comes first was added, in order."""
    found = connection.execute(_OLDEST, (limit,)).fetchall()
    found += connection.execute(_DUE, (now, limit))
    return sorted(found)


def _taken(
    connection: sqlite3.Connection, owner: int, now: float, limit: int
) -> list[tuple[Row, int]]:
    """Give an owner what is free, and return it with its numbers."""
    taken: list[tuple[Row, int]] = []
    heads = _heads(connection, now, limit)
    for queue_id in dict.fromkeys(queue_id for _, _, queue_id in heads):
        room = limit - len(taken)
        with closing(connection.execute(_QUEUE, (queue_id, now))) as queue:
            found = list(islice(queue, room + 1))
        if len(found) > room and taken:
            break
        taken += ((_row(fields[:_FIELDS]), fields[_FIELDS]) for fields in found[:room])
    connection.executemany(_TAKE, ((owner, number) for _, number in taken))
    return taken
