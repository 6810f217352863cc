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


def unavailable(
    exception: sqlite3.Error | OSError, path: str, busy_timeout: float
) -> StoreUnavailableError:
    """Return an error that tells what is wrong with a file, and what to do.

    Args:
        exception: what was raised.
        path: the file.
        busy_timeout: the seconds for which others may lock it.
    """
    code = getattr(exception, "sqlite_errorcode", 0) & 0xFF  # the rest tells more exactly where
    advice = _ADVICE.get(_LIKE.get(code, code), "").format(busy_timeout=busy_timeout)
    told = f"the store {path} cannot be used: {exception}"
    return StoreUnavailableError(f"{told}; {advice}" if advice else told)
