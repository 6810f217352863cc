"""What the drivers of one application share, and the protocol that they keep."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from bgadapters.core import host
from bgadapters.core.drivers.in_flight import InFlight
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch, Effects
from bgadapters.core.model.context import on_behalf_of, owner
from bgadapters.core.model.control import NotToRun
from bgadapters.core.model.events import Events, because
from bgadapters.core.model.hooks import FrameworkHooks
from bgadapters.core.model.precondition import ResponseFailed
from bgadapters.core.model.record import Outcome
from bgadapters.core.model.task import Task, Wait, forgo, has_ended


class Driver(Protocol):
    """Runs the tasks of a batch, as far as they are of the kind that belongs to it."""

    def start(self, batch: Batch) -> bool:
        """Take a batch that has something to do, from any thread; False where that cannot be.

        When the driver can go no further it calls `Execution.to_loop` or `to_threads`, or
        `Execution.finish` when nothing is left.
        """
        ...


class Turns(Protocol):
    """Decides whether a task of a checked batch may run when its turn has come."""

    def take(
        self, batch: Batch, is_async: bool, resume: Callable[[], object] | None = None
    ) -> Task | Literal[False] | None:
        """Take the next task to run it, if it is of this kind.

        Args:
            batch: the batch; the task before has ended.
            is_async: the kind.
            resume: has the batch go on if it has to wait. Default: as the scheduler does.

        Returns:
            None if there is none of this kind; False if the batch has to wait, so that it is the
            driver's no longer.
        """
        ...

    def settle(self, batch: Batch) -> None:
        """The last task of a batch has ended."""
        ...

    def lose(self, batch: Batch, tasks: Iterable[Task]) -> None:
        """Tasks of a batch that was released have ended and have not started."""
        ...


class Execution:
    """One application, as its drivers see it.

    Args:
        events: what is told of tasks.
        hooks: what is entered around them.
        in_flight: where finished batches are crossed off.
        to_threads: has worker threads go on with a batch, whose next task is a sync one.
        to_loop: has an event loop go on with a batch, whose next task is an async one.
        release: releases a batch.
        try_again: has a task that has raised wait for its next attempt.

    Attributes:
        turns: takes the tasks of checked batches. Set when the application is put together.
    """

    turns: Turns

    def __init__(  # noqa: PLR0917  called once, for every application
        self,
        events: Events,
        hooks: FrameworkHooks,
        in_flight: InFlight,
        to_threads: Callable[[Batch], None],
        to_loop: Callable[[Batch], None],
        release: Callable[[Batch], None],
        try_again: Callable[[Batch, Task, Wait], None],
    ) -> None:
        self.events = events
        self.hooks = hooks
        self.in_flight = in_flight
        self.to_threads = to_threads
        self.to_loop = to_loop
        self.release = release
        self._try_again = try_again

    def finish(self, batch: Batch) -> bool:
        """End a batch in which nothing is left to do; tell whether that is so."""
        if batch.is_checked and batch.awaited is None:
            self.turns.settle(batch)
        finished = batch.finish()
        if finished is None:
            return False
        capacity, succeeded, callbacks = finished
        self.in_flight.leave(batch, capacity, succeeded)
        for callback in callbacks:
            callback()
        return True

    def settle(self, batch: Batch, task: Task, exception: BaseException) -> None:
        """An attempt has raised: the task has failed, or is to be tried again.

        To be called in the task's own context, by the driver that has the batch.
        """
        if isinstance(exception, NotToRun):
            self.events.not_run(batch, task, exception.outcome, str(exception))
            return
        try:
            wait = task.next_attempt(exception)
        except BaseException as exc:  # what the application has given to decide it
            exc.__context__ = exception
            exception, wait = exc, None
        if wait is None or has_ended(task):
            self.events.failed(batch, task, exception)
        else:
            self.events.retrying(batch, task, exception, wait)
            self._try_again(batch, task, wait)

    def fail_next(self, batch: Batch, exception: BaseException) -> None:
        """Have the next async task fail, which nothing can run here."""
        awaited: Any = batch.awaited
        task = batch.take(True) if awaited is None else batch.running
        forgo(awaited)
        batch.awaited = None
        if task is not None:  # pragma: no branch  a drain may just have taken what was left
            task.context.run(owner.set, batch)
            task.context.run(self.events.failed, batch, task, exception)
        batch.running = None

    def break_off(self, batch: Batch, exception: BaseException) -> None:
        """End a batch whose driver was broken off, by a signal or a fault of this package.

        What is left is named and discarded.
        """
        why = "running them has failed"
        if host.raised_by_signal(exception):
            why, batch.running = "a signal has broken off the one before", None
        else:
            guard.log(logging.ERROR, "Running background tasks has failed", exc_info=exception)
        batch.awaited = None
        left = self.abandon(batch, "discarded")
        if left:
            with on_behalf_of(batch):
                self.events.discarded(batch, left, why, exception)
        self.finish(batch)

    def abandon(self, batch: Batch, outcome: Outcome = "abandoned") -> list[Task]:
        """Give up on a batch: take what waits; return that and what runs, the first time.

        Args:
            batch: the batch.
            outcome: how all of that has ended. Default: a drain has given up on it.
        """
        left = batch.abandon(outcome)
        if batch.is_checked:
            self.turns.lose(batch, left)
        return left

    def perform(
        self, batch: Batch, effects: Effects, exception: BaseException | None = None
    ) -> None:
        """Give back the capacity that a transition has freed, and tell of what it has discarded.

        Args:
            batch: the batch.
            effects: those of the transition.
            exception: why the response failed, if that is why.
        """
        self.give_back(effects)
        if effects.unneeded:
            why = ResponseFailed.why_failed
            self.events.discarded(batch, effects.unneeded, why, level=logging.DEBUG)
        failed = effects.failed
        if failed is not None:
            reason = failed.reason()
            self.events.discarded(batch, effects.discarded, failed.why_failed, reason)
        elif effects.discarded and exception is not None:
            self.events.discarded(batch, effects.discarded, because(exception), exception)

    def give_back(self, effects: Effects) -> None:
        """Give back the capacity that a transition has freed; nobody is told of its tasks.

        What waits for the batch, if it has ended, goes on.
        """
        if effects.freed:
            self.in_flight.free(effects.freed)
        for callback in effects.ended:
            callback()

    def take_failed(self, batch: Batch) -> None:
        """Discard what the batch's own tasks have added and whose precondition has failed.

        What still waits for one when its turn has come goes on by itself.
        """
        effects = batch.take_failed()
        self.turns.lose(batch, effects.discarded)
        with on_behalf_of(batch):
            self.perform(batch, effects)
        for each in effects.apart:
            self.release(each)
