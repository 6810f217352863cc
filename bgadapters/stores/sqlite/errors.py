"""What SQLite and the operating system raise, in words that say what to do."""

from __future__ import annotations

import sqlite3

from bgadapters.adapters import StoreUnavailableError

_ADVICE = {
    sqlite3.SQLITE_BUSY: (
        "it was locked for longer than busy_timeout={busy_timeout:g} seconds: see which program "
        "writes to it for so long"
    ),
    sqlite3.SQLITE_FULL: "the disk, or the user's share of it, is full: make room",
    sqlite3.SQLITE_READONLY: "the user of the server must be able to write to it",
    sqlite3.SQLITE_CANTOPEN: (
        "it is not there, or the user of the server may not open it and make files beside it"
    ),
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged: end the server, move it away with its -wal and -shm, and see what "
        "'sqlite3 FILE .recover' finds in it"
    ),
    sqlite3.SQLITE_IOERR: "the disk, or its file system, has failed: see the system's log",
}
_LIKE = {
    sqlite3.SQLITE_LOCKED: sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PERM: sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB: sqlite3.SQLITE_CORRUPT,
}


class Told:
    """Makes `StoreUnavailableError` of what SQLite and the operating system raise in ``with``.

    Args:
        path: the file.
        busy_timeout: the seconds for which others may lock it.
    """

    def __init__(self, path: str, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout

    def __enter__(self) -> None:
        """Nothing is wrong yet."""

    def __exit__(self, _: object, exception: BaseException | None, __: object) -> None:
        """Tell what is wrong, and what to do."""
        if not isinstance(exception, (sqlite3.Error, OSError)):
            return
        code = getattr(exception, "sqlite_errorcode", 0) & 0xFF  # the rest of it tells where
        advice = _ADVICE.get(_LIKE.get(code, code), "").format(busy_timeout=self._busy_timeout)
        told = f"the store {self._path} has failed: {exception}"
        raise StoreUnavailableError(f"{told}; {advice}" if advice else told) from exception
