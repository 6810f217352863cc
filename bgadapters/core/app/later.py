"""What waits for a time: delays, and the back-off between two attempts. One mechanism for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgadapters.core.drivers.timer import Timer
from bgadapters.core.model.batch import Batch

_NEVER = float("inf")


class Later:
    """The released batches of one application that wait for their time.

    They are in flight, but no worker and no loop has them.

    Args:
        limit: how many should wait at one time, at most; see `is_full`.
        start: called with what is due, in the timer's thread or in that of a drain.

    Attributes:
        on_late: called with a batch that is not due before a drain ends which is under way.
    """

    def __init__(self, limit: int, start: Callable[[Batch], None]) -> None:
        self._start = start
        self._timer: Timer[Batch] = Timer(limit, start)
        self._deadlines: list[float] = []  # of the drains under way; changed in single steps
        self.on_late: Callable[[Batch], None] = start

    def reset_after_fork(self) -> None:
        """Start with nothing: at first, and in a forked child."""
        self._timer.reset_after_fork()
        self._deadlines = []

    @property
    def is_full(self) -> bool:
        """Whether as many wait as should."""
        return self._timer.is_full

    @property
    def is_draining(self) -> bool:
        """Whether a drain is under way, so that nothing waits longer than it was asked to."""
        return bool(self._deadlines)

    def add(self, batch: Batch, due: float) -> bool:
        """Have a batch wait until ``due``; False where no thread can be had to wake it."""
        settle = self._by_drain(batch, due)
        if settle is None:
            if not self._timer.add(batch, due):
                return False
            settle = self._by_drain(batch, due)  # one that has looked before the batch was there
            if settle is None or not self._timer.remove(batch):
                return True
        settle(batch)
        return True

    def _by_drain(self, batch: Batch, due: float) -> Callable[[Batch], None] | None:
        """What is to be done with a batch because of a drain under way; None if it may wait."""
        if not self._deadlines:
            return None
        if _may_hurry(batch):
            return self._start
        return self.on_late if due > max(self._deadlines, default=_NEVER) else None

    def remove(self, batch: Batch) -> bool:
        """Take a batch in which nothing is left to do; False if it does not wait."""
        return self._timer.remove(batch)

    @contextmanager
    def draining(self, deadline: float) -> Iterator[list[Batch]]:
        """Until the end of the block a drain is under way.

        What waits for a back-off alone starts now.

        Yields:
            What is not due by ``deadline``: it does not wait any more, and will not start.
        """
        self._deadlines.append(deadline)
        try:
            for batch in self._timer.take(lambda batch, _: _may_hurry(batch)):
                self._start(batch)
            yield self._timer.take(lambda _, due: due > deadline)
        finally:
            self._deadlines.remove(deadline)


def waits(batch: Batch) -> bool:
    """Whether a released batch waits for its time."""
    return batch.due is not None and batch.due > time.monotonic()


def _may_hurry(batch: Batch) -> bool:
    task = batch.first()
    return task is None or task.may_hurry
