"""What was released and has not finished: counted, bounded, waited for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks


class Backlog:
    """The one registry of an application's unfinished queues.

    A queue holds as many places as it has tasks, from its release (or from each
    ``add_task``, where a full backlog rejects) until its last task has run.

    Args:
        limit: the places there are (``max_pending``).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._live: set[BackgroundTasks] = set()  # guarded by _lock
        self.reset()

    def reset(self) -> set[BackgroundTasks]:
        """Start empty: at first, and in a forked child, which runs none of its parent's tasks.

        Returns the queues that were live. The lock is not asked: a thread that is not there in
        the child may have held it.
        """
        dropped = self._live
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # threads that wait for _changed; guarded by _lock
        self._taken = 0  # guarded by _lock
        self._live = set()
        self._wakers: list[Callable[[], object]] = []  # guarded by _lock
        self._returned: deque[int] = deque()  # places that the next change gives back
        return dropped

    @property
    def taken(self) -> int:
        """The number of tasks that wait or run."""
        return self._taken - sum(self._returned)

    @property
    def is_full(self) -> bool:
        """Whether as many tasks wait or run as may."""
        return self.taken >= self._limit

    def try_reserve(self, places: int, waker: Callable[[], object] | None = None) -> bool:
        """Take places if they are free. Else call ``waker``, once, when some have become free.

        A queue larger than the limit gets in when it would be alone.
        """
        with self._lock:
            if not self._fits(places):
                if waker is not None:
                    self._wakers.append(waker)
                return False
            self._taken += places
            return True

    def reserve(self, places: int) -> None:
        """Take places whether or not they are free."""
        with self._lock:
            self._taken += places

    def free(self, places: int) -> None:
        """Give places back."""
        with self._lock:
            self._taken -= places
            self._wake()

    def free_later(self, places: int) -> None:
        """Give places back with the next change: the collector may call where the lock is held."""
        self._returned.append(places)

    def enter(self, queue: BackgroundTasks, places: int = 0) -> bool:
        """Note a released queue and take the places it lacks; tell whether they were free."""
        with self._lock:
            fits = self._fits(places)
            self._taken += places
            self._live.add(queue)
            return fits

    def leave(self, queue: BackgroundTasks, places: int) -> None:
        """Note a finished queue and give back its places."""
        with self._lock:
            self._live.discard(queue)
            self._taken -= places
            self._wake()

    def live(self) -> list[BackgroundTasks]:
        """The queues that have not finished."""
        with self._lock:
            return list(self._live)

    def disown_abandoned(self) -> None:
        """Wait no more for queues that a drain has given up on: it has named what was left."""
        with self._lock:
            self._live = {queue for queue in self._live if not queue._abandoned}
            self._wake()

    def wait_idle(self, timeout: float | None) -> bool:
        """Wait in this thread until nothing is left; False if ``timeout`` seconds were too few."""
        return self._wait_for(lambda: not self._live, timeout)

    def wait_gone(self, queue: BackgroundTasks) -> None:
        """Wait in this thread until ``queue`` has finished."""
        self._wait_for(lambda: queue not in self._live)

    def is_idle(self, waker: Callable[[], object], home: object = None) -> bool:
        """Tell whether nothing is left. Else call ``waker``, once, when something has finished.

        Given an event loop, ``home``, tell it of the queues of this loop.
        """
        with self._lock:
            if any(home is None or queue._home is home for queue in self._live):
                self._wakers.append(waker)
                return False
            return True

    def _fits(self, places: int) -> bool:
        """Whether so many places, if any, are free. Called with _lock held."""
        while self._returned:
            self._taken -= self._returned.popleft()
        return not places or not self._taken or self._taken + places <= self._limit

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        with self._changed:
            self._waiting += 1
            try:
                return self._changed.wait_for(condition, timeout)
            finally:
                self._waiting -= 1

    def _wake(self) -> None:
        """Something was given back or has finished. Called with _lock held."""
        if self._waiting:  # telling a condition of which nobody wants to hear costs a microsecond
            self._changed.notify_all()
        if self._wakers:
            wakers, self._wakers = self._wakers, []
            for waker in wakers:
                waker()
