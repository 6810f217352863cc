"""How long a thread that computes keeps the interpreter's lock from one that asks for it.

The interpreter has one such time for all threads of the process, 5 milliseconds unless somebody
has set another one. Whoever needs the lock waits that long each time it asks for it, and a request
asks again after each thing that it has waited for: a threaded server some twenty times for each
request. So beside one thread that computes all the time it serves some ten requests a second.
"""

from __future__ import annotations

import sys
import threading

SHORT = 0.0005
"""Seconds. To change threads takes some hundredths of that."""


class Switching:
    """Has threads change places more often, as long as anybody asks for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._askers: set[int] = set()  # ids; guarded by _lock
        self._before = 0.0  # seconds, as it was; guarded by _lock

    def reset_after_fork(self) -> None:
        """In a forked child, where nobody who has asked for it is: as it was before."""
        self._lock = threading.Lock()
        self._askers.clear()
        self._restore_locked()

    def shorten(self, asker: object) -> None:
        """Have them do so until this one calls `restore`, unless they do so even more often."""
        with self._lock:
            if not self._askers:
                self._before = sys.getswitchinterval()
                if self._before > SHORT:
                    sys.setswitchinterval(SHORT)
            self._askers.add(id(asker))

    def restore(self, asker: object) -> None:
        """This one needs it no longer. What the application has set meanwhile stays."""
        with self._lock:
            if id(asker) in self._askers:
                self._askers.remove(id(asker))
                if not self._askers:
                    self._restore_locked()

    def _restore_locked(self) -> None:
        before, self._before = self._before, 0.0
        if before > SHORT and sys.getswitchinterval() == SHORT:
            sys.setswitchinterval(before)


switching = Switching()
"""That of the process."""
