"""The file: who may read it, what is in it, and when it is on the disk."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from urllib.parse import quote

from bgadapters.adapters import SettingsError, StoreUnavailableError
from bgadapters.stores.sqlite.connection import Connection
from bgadapters.stores.sqlite.errors import Told
from bgadapters.stores.sqlite.forks import Connections
from bgadapters.stores.sqlite.location import Location, check_place
from bgadapters.stores.sqlite.mine import BITS

_APPLICATION = 0x62676164  # "bgad": says in the file that it is ours
_VERSION = 2

# What a living process has, that process finds by `number` (see `Mine`): an insert pays for no
# index. What nobody has is in indexes, by all that it is looked for by.
_SCHEMA = (
    """CREATE TABLE tasks (
      number INTEGER PRIMARY KEY, id TEXT NOT NULL, queue_id TEXT NOT NULL,
      position INTEGER NOT NULL, added REAL NOT NULL, payload TEXT NOT NULL, name TEXT NOT NULL,
      key TEXT, priority INTEGER NOT NULL, due REAL, attempt INTEGER NOT NULL,
      crashes INTEGER NOT NULL, is_recovered INTEGER NOT NULL, state TEXT NOT NULL, failure TEXT,
      ended REAL, owner INTEGER, has_begun INTEGER NOT NULL DEFAULT 0,
      is_claimed INTEGER NOT NULL DEFAULT 0)""",
    # A number is never that of another one again: tasks have it in theirs.
    "CREATE TABLE owners (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)",
    "CREATE INDEX tasks_of_nobody ON tasks (id) WHERE owner IS NULL",
    """CREATE INDEX tasks_free ON tasks (due, added)
      WHERE state = 'waiting' AND owner IS NULL""",
    """CREATE INDEX tasks_of_queue ON tasks (queue_id, position)
      WHERE state = 'waiting' AND owner IS NULL""",
    f"CREATE INDEX tasks_taken ON tasks (owner) WHERE owner <> number >> {BITS}",
    "CREATE INDEX tasks_of_key ON tasks (key) WHERE key IS NOT NULL",
    "CREATE INDEX tasks_failed ON tasks (added) WHERE state = 'failed'",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)

# The log (WAL) is moved into the file when about so many pages were written to it. That waits for
# the disk more than once: preferably while no response waits for tasks to be kept.
_MANY, _TOO_MANY = 1000, 2000
_ROWS_A_PAGE, _BYTES_A_PAGE = 4, 2048  # of small rows so many, and of large ones
_LOG_SIZE = 8 * 1024 * 1024  # bytes that a log keeps when all of it has been moved


class Database:
    """The file of a store.

    Args:
        location: where it is.
    """

    def __init__(self, location: Location) -> None:
        self.path = os.path.realpath(location.path)  # as the files beside it are named by SQLite
        self._location = location
        self._connections = Connections(self.path)
        self.told = Told(self.path, location.busy_timeout)
        self._file = (0, 0)  # the one that is open

    def connect(self) -> None:
        """Make the file if it is not there, and keep a connection to it.

        Raises:
            SettingsError: it cannot be there, is another program's, or another version's.
            StoreUnavailableError: it is locked, or the disk is full.
        """
        check_place(self.path)
        with self._connections, self.told:
            self._make_file()
            connection = self._new()
            try:
                self._set_up(connection)
                self._file = _identity(self.path)
            except BaseException:
                connection.close()
                raise
            self._connections.kept = connection

    def disconnect(self) -> None:
        """Close the connection."""
        with self._connections, self.told:
            kept, self._connections.kept = self._connections.kept, None
            if kept is not None:
                kept.close()

    def forget(self) -> None:
        """In a forked child: let go of what was inherited."""
        self._connections.forget()

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Use the connection, or one of its own if none is kept.

        Raises:
            StoreUnavailableError: whatever is wrong with it.
        """
        with self._connections, self.told, self._connection() as connection:
            connection.have("busy_timeout", round(self._location.busy_timeout * 1000))
            yield connection

    @contextmanager
    def writing(self, at_once: bool = False, size: int = 0) -> Iterator[sqlite3.Connection]:
        """Use the connection in a transaction.

        Args:
            at_once: whether it has to survive a loss of power when it ends, if the file is to.
            size: about how many bytes of it may be large.

        Raises:
            StoreUnavailableError: whatever is wrong with it. Nothing counts of what was done.
        """
        with self._connections, self.told, self._connection() as connection:
            self._prepare(connection, at_once)
            before = connection.total_changes
            self._begin(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # an error that is grave enough has ended it
                    connection.execute("ROLLBACK")
                raise
            self._note_rows(connection, connection.total_changes - before, size, at_once)

    def insert(self, statement: str, values: Sequence[object], rows: int, size: int) -> None:
        """Do as `writing` with ``at_once``, for one statement: it is a transaction by itself.

        Raises:
            StoreUnavailableError: whatever is wrong with the connection. No row is in the file.
        """
        with self._connections, self.told:
            connection = self._connections.kept
            if connection is None:
                raise StoreUnavailableError(f"the store {self.path} is not open")
            self._prepare(connection, at_once=True)
            connection.have("busy_timeout", 0)
            connection.patiently(statement, self._location.busy_timeout, values)
            self._note_rows(connection, rows, size, at_once=True)

    def _prepare(self, connection: Connection, at_once: bool) -> None:
        if at_once:
            self._check_file()
        connection.have("synchronous", self._location.synchronous if at_once else "NORMAL")

    def _note_rows(self, connection: Connection, rows: int, size: int, at_once: bool) -> None:
        """So many rows were written, in one transaction."""
        connection.pages += 1 + rows // _ROWS_A_PAGE + size // _BYTES_A_PAGE
        if connection.pages >= (_TOO_MANY if at_once else _MANY):
            connection.pages = 0
            self._move_log(connection)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        kept = self._connections.kept
        if kept is not None:
            yield kept
            return
        with closing(self._new()) as connection:
            if not self._is_ours(connection):
                raise StoreUnavailableError(
                    f"the store {self.path} is empty: no server has opened it yet"
                )
            yield connection

    def _begin(self, connection: Connection) -> None:
        """Begin to write, as soon as nobody else does."""
        connection.have("busy_timeout", 0)
        connection.patiently("BEGIN IMMEDIATE", self._location.busy_timeout)

    def _move_log(self, connection: Connection) -> None:
        """Move what is in the log into the file, while nobody writes to it.

        SQLite could do so beside writers, but before 3.51.3 what these write may then be lost, once
        in many times (https://sqlite.org/wal.html#walresetbug).
        """
        try:
            with closing(self._new()) as other:
                self._begin(other)
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            return  # all is in the log, and it is tried again

    def _check_file(self) -> None:
        """Check that the file that is open is the one that other processes find."""
        try:
            found = _identity(self.path)
        except FileNotFoundError as exc:
            raise StoreUnavailableError(
                f"the store {self.path} is not there any more: move it back, or restart the "
                "server, which makes a new one"
            ) from exc
        if found != self._file:
            raise StoreUnavailableError(
                f"the store {self.path} is another file than when it was opened: restart the "
                "server, and replace the file while no server runs"
            )

    def _make_file(self) -> None:
        """Make an empty file, which nobody but this user can ever open.

        SQLite gives the files beside it the same permissions.
        """
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return  # not to be opened here: to close it again would drop SQLite's locks on it

    def _new(self) -> Connection:
        connection = sqlite3.connect(
            f"file:{quote(self.path)}?mode=rw",
            uri=True,
            timeout=self._location.busy_timeout,
            factory=Connection,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_move_log`
        return connection

    def _set_up(self, connection: Connection) -> None:
        try:
            self._is_ours(connection)
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
                raise
            raise SettingsError(
                f"the store {self.path} is no database of SQLite: name a file of its own"
            ) from exc
        self._use_log(connection)
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_SIZE}")
        connection.execute("PRAGMA fullfsync = ON")  # macOS' fsync alone leaves it to the disk
        self._begin(connection)
        if not self._is_ours(connection):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")

    def _use_log(self, connection: Connection) -> None:
        """Have transactions written to a log (WAL). While others do that, SQLite does not wait."""
        seconds = self._location.busy_timeout
        (mode,) = connection.patiently("PRAGMA journal_mode = WAL", seconds).fetchone()
        if mode != "wal":
            raise SettingsError(
                f"the store {self.path} is on a file system without shared memory for SQLite's "
                "log (WAL): take a local disk"
            )

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether there are tasks in it; False if nothing is.

        Raises:
            SettingsError: it is another program's, or another version's.
        """
        # First this: another process may be about to make tables and id, in one transaction.
        has_tables = connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION:
            if has_tables or application:
                raise SettingsError(
                    f"the store {self.path} is a database of another program: name a file of its "
                    "own"
                )
            return False
        if version != _VERSION:
            age = "a newer" if version > _VERSION else "an older"
            raise SettingsError(
                f"the store {self.path} was made by {age} version of bgadapters (its format is "
                f"{version}, and this one knows {_VERSION}): install that, or name another file"
            )
        return True


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
