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
_SPARE = 16  # entries of what was taken that a heap may have besides


T = TypeVar("T")

_Entry = tuple[float, int, T]  # when it is due, its number, and what waits


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
        self._waiting: dict[T, _Entry[T]] = {}  # guarded by _changed
        self._heap: list[_Entry[T]] = []  # those, and some that were taken; guarded by _changed
        self._numbers = count()  # those due at one time go in the order added
        self._has_thread = False  # guarded by _changed
        self._wakes_at = 0.0  # when the thread will look again by itself; guarded by _changed

    @property
    def is_full(self) -> bool:
        """Whether as many wait as should."""
        return len(self._waiting) >= self._limit

    def add(self, waiting: T, due: float) -> bool:
        """Wake ``waiting`` when `time.monotonic` says ``due``; False where no thread can be had."""
        with self._changed:
            if not self._has_thread and not self._start_thread():
                return False
            self._waiting[waiting] = entry = due, next(self._numbers), waiting
            heapq.heappush(self._heap, entry)
            if due < self._wakes_at:
                self._changed.notify()
            return True

    def remove(self, waiting: T) -> bool:
        """Take one of those that wait: it will not be woken. False if it does not wait.

        The thread is left to find out by itself: it may well have something to wait for by then.
        """
        with self._changed:
            if self._waiting.pop(waiting, None) is None:
                return False
            # Its entry stays in the heap, from which it could not be taken without a search.
            if len(self._heap) > 2 * len(self._waiting) + _SPARE:
                self._sort_locked()
            return True

    def take(self, is_chosen: Callable[[T, float], bool]) -> list[T]:
        """Take some of those that wait, in the order of their times: they will not be woken.

        Args:
            is_chosen: tells which, by themselves and by when they are due; called under a lock.
        """
        with self._changed:
            found = self._waiting.values()
            taken = sorted(entry for entry in found if is_chosen(entry[2], entry[0]))
            for _, _, waiting in taken:
                del self._waiting[waiting]
            self._sort_locked()
            self._changed.notify()
        return [waiting for _, _, waiting in taken]

    def _sort_locked(self) -> None:
        self._heap = list(self._waiting.values())
        heapq.heapify(self._heap)

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
                    self._heap.clear()
                    self._has_thread = False
                    break
                first = self._heap[0]
                if self._waiting.get(first[2]) is not first:  # it was taken
                    heapq.heappop(self._heap)
                    continue
                now = time.monotonic()
                left = first[0] - now
                if left <= 0:
                    del self._waiting[first[2]]
                    return heapq.heappop(self._heap)[2]
                self._wakes_at = now + min(left, _LONGEST)
                changed.wait(min(left, _LONGEST))
                self._wakes_at = 0.0
        return None
