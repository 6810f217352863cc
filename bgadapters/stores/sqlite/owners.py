"""Which owners live: each has locked a file of its own, which the kernel unlocks at its end.

These are POSIX record locks: a forked child does not have those of its parent, and however a
process ends, and only then, they are gone. But a process drops its lock on a file when it closes
*any* descriptor of that file. So none opens the files of its own owners again.
"""

from __future__ import annotations

import fcntl
import os
from urllib.parse import quote, unquote

_SUFFIX = ".lock"

_here: set[tuple[int, str]] = set()
"""The owners of this process, with its id: a forked child has none of its parent's.

An owner is here before its file is there: whoever has heard of it finds it here.
"""


class Owners:
    """The owners of one file of tasks.

    Args:
        directory: where their files are; it is made when the first one begins.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._owner: str | None = None
        self._file = -1

    def begin(self, owner: str) -> None:
        """Begin to live."""
        try:
            os.mkdir(self._directory, 0o700)
        except FileExistsError:
            self._sweep()
        _here.add((os.getpid(), owner))
        self._owner = owner
        try:
            while not self._lock(self._path(owner)):
                os.close(self._file)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Live no more."""
        owner, file = self._owner, self._file
        self._owner, self._file = None, -1
        if owner is None:
            return
        if file >= 0:
            _unlink(self._path(owner))  # while it is locked: nobody else does it
            os.close(file)
        _here.discard((os.getpid(), owner))

    def forget(self) -> None:
        """In a forked child: the owner is the parent's, and its lock too."""
        if self._file >= 0:
            os.close(self._file)
        self._owner, self._file = None, -1

    def lives(self, owner: str) -> bool:
        """Whether an owner lives, in whatever process."""
        if (os.getpid(), owner) in _here:
            return True
        path = self._path(owner)
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        else:
            _unlink(path)  # while it is locked: if its owner is only about to lock it, it sees that
            return False
        finally:
            os.close(file)

    def _lock(self, path: str) -> bool:
        """Lock the file of this owner; False if somebody took it for a dead one's meanwhile."""
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        """Remove the files of owners that died without tasks."""
        for name in os.listdir(self._directory):
            if name.endswith(_SUFFIX):
                self.lives(unquote(name.removesuffix(_SUFFIX)))

    def _path(self, owner: str) -> str:
        return os.path.join(self._directory, quote(owner, safe="") + _SUFFIX)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
