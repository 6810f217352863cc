"""What a forked child does with the connections of its parent.

SQLite notes in the memory of a process which locks it has on a file. A forked child inherits the
notes and not the locks: if it leaves an inherited connection as it is, its own connections take
none, and another process removes the log of transactions (WAL) while they write to it. If it closes
the inherited one, the notes are gone. It may do so unless the connection was in use at the fork; so
a fork waits until none is.
"""

from __future__ import annotations

import _thread
import os
import sqlite3
from weakref import WeakSet

from bgadapters.adapters import StoreUnavailableError
from bgadapters.stores.sqlite.connection import Connection

_registry = _thread.RLock()
_all: WeakSet[Connections] = WeakSet()  # guarded by _registry
_held: list[_thread.RLock] = []  # during a fork
_torn: set[str] = set()  # files on which this process has notes of locks that it does not have


class Connections:
    """The connections of a store to its file; whoever uses them is inside of ``with``.

    Then nobody else does, and no fork is made.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = _thread.RLock()
        self._uses = 0
        self._process = os.getpid()
        self.kept: Connection | None = None
        """The one that stays open between uses."""
        with _registry:
            _all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._path in _torn:
            self._lock.release()
            raise StoreUnavailableError(
                f"this process was forked while its parent used the store {self._path}, and must "
                "not use it: fork before tasks are added, or while none are"
            )
        self._uses += 1

    def __exit__(self, *_: object) -> None:
        self._uses -= 1
        self._lock.release()

    def hold(self) -> None:
        """A fork is to be made: wait until they are not in use."""
        self._lock.acquire()
        _held.append(self._lock)

    def forget(self) -> None:
        """In a forked child: close what was inherited, if that can be done."""
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._lock = _thread.RLock()
        kept, self.kept = self.kept, None
        if self._uses:
            self._uses = 0
            _torn.add(self._path)
        elif kept is not None:
            try:
                kept.close()
            except sqlite3.Error:
                _torn.add(self._path)


def forget() -> None:
    """In a forked child: let go of all that was inherited. The second time it does nothing."""
    for each in list(_all):
        each.forget()


def _before() -> None:
    _registry.acquire()
    for each in list(_all):
        each.hold()


def _after() -> None:
    while _held:
        _held.pop().release()
    _registry.release()


def _after_in_child() -> None:
    _after()
    forget()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
