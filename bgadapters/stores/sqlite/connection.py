"""A connection to a file of SQLite that several processes write to."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any

_PAUSE = 0.001
"""Seconds between two tries. SQLite itself pauses the longer the longer it has waited, up to a
tenth of a second: of several processes that write all the time, one may then wait for many."""


class Connection(sqlite3.Connection):
    """A connection that knows what it was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._values: dict[str, object] = {}
        self.pages = 0
        """About how many it has written to the log since it moved that into the file."""

    def have(self, pragma: str, value: object) -> None:
        """Set something, if it is not set to that already."""
        if self._values.get(pragma) != value:
            self.execute(f"PRAGMA {pragma} = {value}")
            self._values[pragma] = value

    def patiently(
        self, statement: str, seconds: float, values: Sequence[object] = ()
    ) -> sqlite3.Cursor:
        """Execute a statement as soon as others let it, within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.execute(statement, values)
            except sqlite3.OperationalError as exc:
                is_busy = exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE)
