"""What waits for its time, in one thread that is there while anything does."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

from bgadapters.core import host

_LONGEST = 3600.0  # seconds of one wait: a lock refuses to wait for centuries


T = TypeVar("T")


class Timer(Generic[T]):
    """Wakes what waits, such as a batch, when its time has come.

    Args:
        limit: how many should wait at one time, at most; see `is_full`.
        wake: called with what is due, in the timer's thread.
    """

    def __init__(self, limit: int, wake: Callable[[T], None]) -> None:
        self._limit = limit
        self._wake = wake
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start with nothing: at first, and in a forked child."""
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, T]] = []  # heap; guarded by _changed
        self._numbers = count()  # those due at one time go in the order added
        self._has_thread = False  # guarded by _changed

    @property
    def is_full(self) -> bool:
        """Whether as many wait as should."""
        return len(self._waiting) >= self._limit

    def add(self, waiting: T, due: float) -> bool:
        """Wake ``waiting`` when `time.monotonic` says ``due``; False where no thread can be had."""
        with self._changed:
            if not self._has_thread and not self._start_thread():
                return False
            heapq.heappush(self._waiting, (due, next(self._numbers), waiting))
            self._changed.notify()
            return True

    def take(self, is_chosen: Callable[[T, float], bool]) -> list[T]:
        """Take some of those that wait, in the order of their times: they will not be woken.

        Args:
            is_chosen: tells which, by themselves and by when they are due; called under a lock.
        """
        with self._changed:
            taken = sorted(entry for entry in self._waiting if is_chosen(entry[2], entry[0]))
            if taken:
                chosen = {number for _, number, _ in taken}
                self._waiting = [entry for entry in self._waiting if entry[1] not in chosen]
                heapq.heapify(self._waiting)
                self._changed.notify()
        return [waiting for _, _, waiting in taken]

    def _start_thread(self) -> bool:
        if not host.has_threads():
            return False
        try:
            host.start_thread(
                threading.Thread(target=self._run, name="bgadapters-timer", daemon=True)
            )
        except RuntimeError:  # no more threads
            return False
        self._has_thread = True
        return True

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            self._wake(waiting)
            del waiting  # or a timer that waits would keep it

    def _next(self) -> T | None:
        """Wait for the next that is due; None when none is left."""
        changed = self._changed
        with changed:
            while self._changed is changed:  # it is not for a greenlet that a fork has copied
                if not self._waiting:
                    self._has_thread = False
                    break
                left = self._waiting[0][0] - time.monotonic()
                if left <= 0:
                    return heapq.heappop(self._waiting)[2]
                changed.wait(min(left, _LONGEST))
        return None
