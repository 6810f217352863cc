"""What an attempt may take at most: the option ``timeout``.

An async task is cancelled. A thread cannot be: a sync task that runs over its time is *overdue*,
and so is an async one that has not ended by its cancellation. That is told once, with what it is
doing. How it ends in the end counts, whenever that is.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from bgadapters.core import host
from bgadapters.core.drivers.timer import Timer
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.control import Around, ControlledTask, Feature
from bgadapters.core.model.events import Events


class TimeLimits:
    """Looks after the attempts of one application that have a time limit.

    Args:
        events: who is told of those that are overdue.
    """

    def __init__(self, events: Events) -> None:
        self.events = events
        self.timer: Timer[_InThread] = Timer(sys.maxsize, _InThread.expire)

    def reset_after_fork(self) -> None:
        """Look after nothing: a forked child runs none of its parent's tasks."""
        self.timer.reset_after_fork()


class TimeLimit(Feature):
    """The time limit of one task.

    Args:
        limits: those of its application.
        seconds: what an attempt may take.

    Attributes:
        deadline: when the attempt that runs should have ended, as `time.monotonic` tells it.
    """

    __slots__ = ("_untold", "deadline", "limits", "seconds")

    def __init__(self, limits: TimeLimits, seconds: float) -> None:
        self.limits = limits
        self.seconds = seconds
        self.deadline: float | None = None
        self._untold: list[bool] = []

    def around(self, task: ControlledTask, is_async: bool) -> Around:
        """Return what is entered around an attempt."""
        if is_async is task.is_async:  # else a sync one has returned an awaitable meanwhile
            self.deadline = time.monotonic() + self.seconds
            self._untold = [True]
        if is_async:
            from bgadapters.core.drivers.loop_time_limit import OnLoop

            return OnLoop(self.seconds, self.left, partial(self.tell, task, owner.get()))
        return _InThread(self, task)

    def left(self) -> float:
        """The seconds until the deadline, or how long ago it was."""
        return (self.deadline or 0.0) - time.monotonic()

    def tell(self, task: ControlledTask, batch: Batch | None, stack: str | None) -> None:
        """Tell that an attempt is overdue, unless that was told. To be called in its context."""
        try:
            self._untold.pop()
        except IndexError:  # it was
            return
        if batch is not None:  # pragma: no branch  it is set around every task
            self.limits.events.overdue(batch, task, self.seconds, stack)


class _InThread(AbstractContextManager[None]):
    """Around the call of a sync task, in its thread."""

    def __init__(self, limit: TimeLimit, task: ControlledTask) -> None:
        self._limit = limit
        self._task = task

    def __enter__(self) -> None:
        self._batch = owner.get()
        self._frame = host.watched_thread()
        self._limit.limits.timer.add(self, self._limit.deadline or 0.0)

    def __exit__(self, *_: object) -> None:
        is_watched = self._limit.limits.timer.remove(self)
        if not is_watched and self._limit.left() <= 0:  # no thread has told, or is about to
            self._limit.tell(self._task, self._batch, None)

    def expire(self) -> None:
        """Tell in the timer's thread, in a copy of the task's context, where the task is."""
        stack = host.shown_thread(self._frame())
        self._task.context.copy().run(self._limit.tell, self._task, self._batch, stack)


def time_limit_of(options: Any, scheduler: Any) -> Feature | None:
    """Return the time limit of a task; None if its options set none."""
    if options.timeout is None:
        return None
    return TimeLimit(scheduler.time_limits, options.timeout)
