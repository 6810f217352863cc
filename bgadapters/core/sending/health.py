"""Which engines do not answer, so that not each task waits for one that does not."""

from __future__ import annotations

import threading
from time import monotonic

INTERVAL = 1.0
"""Seconds after which an engine that has failed is tried again, by one task."""


class Health:
    """Whether one engine takes tasks, as its latest ones have found.

    It *fails* from the first task on that could not be sent, and then is tried by one at a time. It
    is *down* when a task was given up on.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # signal handlers may look
        self._fails = False  # guarded by _lock
        self._is_tried = False  # whether a task is trying one that fails; guarded by _lock
        self._next = 0.0  # when it may be tried, by `monotonic`; guarded by _lock
        self._is_down = False  # guarded by _lock
        self._reason = ""  # why it fails; guarded by _lock
        self._is_told = False  # whether the log has said why it fails; guarded by _lock

    @property
    def is_down(self) -> bool:
        """Whether a task was given up on, and none has been sent since."""
        with self._lock:
            return self._is_down

    def may_try(self) -> bool:
        """Whether it is to be tried now. If so, say how it went by one of the following."""
        with self._lock:
            if self._fails and (self._is_tried or monotonic() < self._next):
                return False
            self._is_tried = True
            return True

    @property
    def reason(self) -> str:
        """Why the latest task could not be sent that has tried it."""
        with self._lock:
            return self._reason

    def failed(self, reason: str) -> None:
        """A task could not be sent."""
        with self._lock:
            self._fails, self._is_tried, self._reason = True, False, reason
            self._next = monotonic() + INTERVAL

    def refused(self) -> None:
        """It has answered, or was not asked: nothing is known but that."""
        with self._lock:
            self._is_tried = False

    def is_news(self) -> bool:
        """Whether the log has not said yet why it fails, as it will now."""
        with self._lock:
            is_news, self._is_told = not self._is_told, True
            return is_news

    def went_down(self) -> bool:
        """A task was given up on; tell whether that is news."""
        with self._lock:
            is_news, self._is_down = not self._is_down, True
            return is_news

    def came_up(self) -> bool:
        """It has taken a task; tell whether it was down before."""
        with self._lock:
            was_down = self._is_down
            self._fails = self._is_tried = self._is_down = self._is_told = False
            return was_down
