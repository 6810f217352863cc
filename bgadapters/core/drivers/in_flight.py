"""What was released and has not finished: counted, bounded, waited for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgadapters.core.drivers.held_back import HeldBack
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task

_PATIENCE = 1.0  # seconds; see `Patience`
_LONGEST_FOR_ONE = 2.0  # seconds; servers kill a process whose main thread is not heard of
_GLANCE = 0.25  # seconds after which to look whether a task has ended in a batch that goes on


class InFlight:
    """The one registry of an application's unfinished batches.

    A batch that is held for a precondition is in it, and holds none. Any other
    holds as much capacity as it has tasks, from its release (or from each ``add_task``,
    where a full registry rejects) until its last task has run.

    Signal handlers run in the middle of anything that the main thread does, so the lock is
    re-entrant, and what it guards is right wherever other code is called.

    Args:
        limit: the capacity that there is (``max_pending``).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Guarded by _lock, but added to without it: that is one step, and wakes nobody.
        self._live: set[Batch] = set()
        self.reset_after_fork()

    def reset_after_fork(self) -> set[Batch]:
        """Start empty: at first, and in a forked child, which runs none of its parent's tasks.

        Returns the batches that were live. The lock is not asked: a thread that is not there in
        the child may have held it.
        """
        forgotten = self._live
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0  # threads that wait for _changed; guarded by _lock
        self._waits_for_one = False  # whether the main thread does
        self._in_use = 0  # guarded by _lock
        self.succeeded = 0  # tasks of batches that have finished; guarded by _lock
        self._live = set()
        self._held_back = HeldBack()  # guarded by _lock
        self._progress = 0  # see `progress`; guarded by _lock
        self._seen: object = None  # by `progress`, and when it looks again; guarded by _lock
        self._look_again = 0.0
        self._callbacks: list[Callable[[], object]] = []  # guarded by _lock
        self._returned: deque[int] = deque()  # capacity that the next change gives back
        return forgotten

    @property
    def in_use(self) -> int:
        """The number of tasks that wait or run."""
        return self._in_use - sum(self._returned)

    @property
    def is_full(self) -> bool:
        """Whether as many tasks wait or run as may."""
        return self.in_use >= self._limit

    @property
    def is_overfull(self) -> bool:
        """Whether more tasks wait or run than may."""
        return self.in_use > self._limit

    @property
    def fullness(self) -> float:
        """The tasks that wait or run, of those that may."""
        return self.in_use / self._limit

    def running(self) -> set[Task | None]:
        """The tasks that run at this moment."""
        return {batch.running for batch in self.live()}

    def progress(self) -> int:
        """Return a number that is another one when something has ended or started since.

        Many may ask, so it is looked at only so often. Nothing of a task is kept for it.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._look_again:
                running = {(id(b), b.started) for b in self.live() if b.running is not None}
                before, self._seen = self._seen, (self.succeeded, running)
                self._progress += before != self._seen
                self._look_again = now + _PATIENCE / 10
            return self._progress

    def try_reserve(self, count: int, callback: Callable[[], object] | None = None) -> bool:
        """Take capacity if it is free. Else call ``callback``, once, when that much has become so.

        It is kept free for those who were called. Whoever does not ask again calls `give_up`.

        A batch larger than the limit gets in when it would be alone.
        """
        held_back = self._held_back
        with self._lock:
            if (  # as nearly always: then nobody was called, and nobody is overtaken
                not (held_back.waiting or held_back.promised)
                and self._in_use + count <= self._limit
            ):
                self._in_use += count
                return True
            was_called = held_back.remove(callback)
            fits = (was_called or held_back.may_be_overtaken) and self._fits_locked(count)
            if fits:
                self._in_use += count
            elif callback is not None:
                held_back.add(callback, count)
            callbacks = self._notify_held_back_locked() if was_called else ()
        for each in callbacks:
            each()
        return fits

    def give_up(self, callback: Callable[[], object]) -> None:
        """Whoever was to be called by `try_reserve`, or was called, needs no capacity any more."""
        with self._lock:
            if not self._held_back.remove(callback):
                return
            callbacks = self._notify_held_back_locked()
        for each in callbacks:
            each()

    def reserve(self, count: int) -> None:
        """Take capacity whether or not it is free."""
        with self._lock:
            self._in_use += count

    def free(self, count: int) -> None:
        """Give capacity back."""
        with self._lock:
            self._in_use -= count
            callbacks = self._notify_locked()
        for callback in callbacks:
            callback()

    def free_later(self, count: int) -> None:
        """Give capacity back with the next change: the collector may call where _lock is held."""
        self._returned.append(count)

    def enter(self, batch: Batch, takes_capacity: bool = True) -> bool:
        """Note a released batch and take the capacity it lacks; tell whether that was free."""
        missing = len(batch.waiting) - batch.capacity if takes_capacity else 0
        if not missing:  # as where its response was held back until there was room
            self._live.add(batch)
            return True
        batch.capacity += missing  # nothing else does so now: it was released and does not run
        with self._lock:
            self._live.add(batch)
            fits = self._fits_locked(missing)
            self._in_use += missing
            return fits

    def hold(self, batch: Batch) -> None:
        """Note a batch that takes no capacity: it has some, or may wait for a precondition."""
        self._live.add(batch)

    def leave(self, batch: Batch, count: int, succeeded: int = 0) -> None:
        """Note a finished batch, with so many tasks that succeeded, and give back its capacity."""
        with self._lock:
            self._live.discard(batch)
            self._in_use -= count
            self.succeeded += succeeded
            if not (self._waiting or self._callbacks or self._held_back.waiting):
                return  # as nearly always
            callbacks = self._notify_locked()
        for callback in callbacks:
            callback()

    def live(self) -> list[Batch]:
        """The batches that have not finished."""
        with self._lock:
            return list(self._live)

    def forget_abandoned(self) -> None:
        """Wait no more for batches that a drain has given up on: it has named what was left."""
        with self._lock:
            self._live.difference_update([batch for batch in self.live() if batch.is_left_behind])
            callbacks = self._notify_locked()
        for callback in callbacks:
            callback()

    def wait_idle(self, timeout: float) -> bool:
        """Wait in this thread until nothing is left; False if ``timeout`` seconds were too few.

        What waits for this thread itself, as for the end of its transaction, is not waited for.
        """
        with self._noting_changes() as changed:
            return changed.wait_for(self._is_idle_locked, timeout)

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """Wait in this thread for ``condition``, as long as tasks finish.

        Args:
            condition: asked whenever something has finished. It may reserve capacity.

        Returns:
            False if patience was lost.
        """
        patience = Patience(self)
        with self._noting_changes() as changed:
            while not condition():
                if changed.wait(patience.seconds):
                    patience.renew()
                elif patience.is_lost():
                    return False
        return True

    def wait_for_one(self, condition: Callable[[], bool]) -> None:
        """Wait in the main thread for ``condition`` or the end of one task, and not for long.

        A signal handler that comes while it waits does not wait as well, or one that comes often
        would nest without end.
        """
        if self._waits_for_one:
            return
        self._waits_for_one = True
        before, end = self.running() - {None}, time.monotonic() + _LONGEST_FOR_ONE
        try:
            with self._noting_changes() as changed:
                while not condition() and time.monotonic() < end and before <= self.running():
                    if changed.wait(_GLANCE):
                        break
        finally:
            self._waits_for_one = False

    def is_idle(self, callback: Callable[[], object], loop: object = None) -> bool:
        """Tell whether nothing is left. Else call ``callback``, once, when something has finished.

        Given an event loop, tell it of the batches that belong to this loop.
        """
        with self._lock:
            if any(loop is None or batch.origin_loop is loop for batch in self.live()):
                self._callbacks.append(callback)
                return False
            return True

    def _is_idle_locked(self) -> bool:
        return all(batch.waits_for_this_thread() for batch in self.live())

    def _fits_locked(self, count: int) -> bool:
        """Whether so much capacity, if any, is free, and not kept for those who were called."""
        while self._returned:
            self._in_use -= self._returned.popleft()
        in_use = self._in_use + self._held_back.promised
        return not count or not in_use or in_use + count <= self._limit

    @contextmanager
    def _noting_changes(self) -> Iterator[threading.Condition]:
        with self._changed:
            self._waiting += 1
            try:
                yield self._changed
            finally:
                self._waiting -= 1

    def _notify_locked(self) -> list[Callable[[], object]]:
        """Something was given back or has finished; return what is to be called without _lock."""
        if self._waiting:  # telling a condition of which nobody wants to hear costs a microsecond
            self._changed.notify_all()
        callbacks = self._callbacks
        if callbacks:
            self._callbacks = []
        return callbacks + self._notify_held_back_locked() if self._held_back.waiting else callbacks

    def _notify_held_back_locked(self) -> list[Callable[[], object]]:
        """Keep what is free for those who wait for it, as far as it goes; return what to call."""
        return self._held_back.take(self._fits_locked)


class Patience:
    """How long one who brings more is kept waiting while nothing finishes.

    What is in flight may itself be waiting for what is kept back: tasks that call their own
    application do. Nobody can tell them from others, so that whoever has seen the same tasks run
    for a while, and none of them end, need not wait any longer. The fuller it is by then, the
    longer that while: so what waits stays bounded where tasks are slow.

    Args:
        in_flight: the registry that is full.
    """

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._seen: int | None = None

    @property
    def seconds(self) -> float:
        """How long to wait before `is_lost` is asked."""
        return _PATIENCE * max(1.0, self._in_flight.fullness)

    def renew(self) -> None:
        """Something has finished."""
        self._seen = None

    def is_lost(self) -> bool:
        """Nothing has finished for so many seconds: whether the same tasks run as before."""
        before, self._seen = self._seen, self._in_flight.progress()
        return before == self._seen
