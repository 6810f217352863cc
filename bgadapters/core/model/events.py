"""Tells the log, the observers and the application's hooks what happens to tasks.

All of that is told in the task's own context, and inside the framework's scope: what is logged and
reported has the request's id, user and trace. A task that runs is told of where it runs. What did
not run is told of in a copy of its context.

A task's name is made only when somebody asks for it, so that a task of which nobody hears costs
no string.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from types import CoroutineType
from typing import Any

from bgadapters.core.model import guard, instrumentation, log_fields, mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.event import EventHook, Kind, TaskEvent, TaskObserver
from bgadapters.core.model.hooks import Signals
from bgadapters.core.model.record import Outcome
from bgadapters.core.model.task import Task
from bgadapters.core.model.totals import Totals

_NEVER_AWAITED = "it has returned a coroutine, and hooks are not awaited: write it with 'def'"


class Events:
    """The events of one application, and who hears of them.

    Args:
        on_event: called for everything that happens to a task. Default: nothing is called.
        on_error: called for each task that has failed or was abandoned. Default: nothing is called.
        signals: those of the framework, sent before ``on_event`` is called.
        hook_scope: see `FrameworkHooks`. Default: none.

    Attributes:
        totals: how many tasks have not succeeded.
    """

    def __init__(
        self,
        on_event: EventHook | None = None,
        on_error: EventHook | None = None,
        signals: Signals | None = None,
        hook_scope: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_error = on_error
        self._signals = signals
        self._hook_scope = hook_scope
        self.totals = Totals()

    def has_hooks(self) -> bool:
        """Whether anyone may want to know of a task what is known only when it is added."""
        return bool(
            self._on_event is not None
            or self._on_error is not None
            or self._signals is not None
            or instrumentation.is_listened_to()
        )

    def has_listeners(self) -> bool:
        """Whether anyone hears of tasks that merely start and succeed."""
        return (
            self._hears("started", "succeeded")
            or mode.active.observes
            or guard.logger.isEnabledFor(logging.DEBUG)
        )

    def added(self, batch: Batch, task: Task) -> None:
        """A task was put into a queue. To be called where it was, if `has_hooks`."""
        if self._hears("added"):
            self._tell(TaskEvent("added", task, batch.recorded(task)))

    def started(self, batch: Batch, task: Task) -> None:
        """A task is about to be called."""
        record = batch.recorded(task)
        record.thread = threading.current_thread().name
        self._within(self._tell_progress, TaskEvent("started", task, record))

    def succeeded(self, batch: Batch, task: Task) -> None:
        """A task returned."""
        record = batch.end_task(task, "succeeded")
        if record is not None:  # a drain may have given up on it
            self._within(self._tell_progress, TaskEvent("succeeded", task, record))

    def failed(self, batch: Batch, task: Task, exception: BaseException) -> None:
        """A task raised: logged at ERROR with its traceback, then given to the hooks.

        One on which a drain has given up was told of. It is cancelled, and what else it raises is
        logged.
        """
        record = batch.end_task(task, "failed")
        if record is not None:
            record.thread = record.thread or threading.current_thread().name
            self.totals.count("failed")
            self._within(self._tell_failed, TaskEvent("failed", task, record, exception))
        elif not _is_cancellation(exception):
            event = TaskEvent("failed", task, batch.recorded(task), exception)
            self._within(self._log_failed, event)

    def interrupted(self, batch: Batch, task: Task, exception: BaseException) -> None:
        """A signal handler has raised into a task what is meant for the server: one WARNING."""
        record = batch.end_task(task, "abandoned", "a signal has broken it off")
        if record is not None:  # pragma: no branch  nobody else gives up on it meanwhile
            self.totals.count("abandoned")
            event = TaskEvent("abandoned", task, record, exception)
            self._within(self._tell_interrupted, event)

    def discarded(
        self, batch: Batch, tasks: Sequence[Task], why: str, exception: BaseException | None = None
    ) -> None:
        """Tasks will not run: one WARNING for all of them."""
        events = self._ended("discarded", [(batch, task) for task in tasks], why, exception)
        message = "%d background task(s) discarded, %s: %s"
        self._log_all(events, message, len(tasks), why, names(tasks))
        self._tell_each(events)

    def abandoned(self, left: Sequence[tuple[Batch, Task]], timeout: float) -> None:
        """A drain ran out of time: one WARNING that names everything left behind."""
        why = f"not finished within the drain timeout of {timeout:.3g} s"
        events = self._ended("abandoned", left, why)
        message = "%d background task(s) abandoned, %s: %s"
        self._log_all(events, message, len(left), why, names([task for _, task in left]))
        self._tell_each(events)

    # Ends of tasks that do not run here.

    def _ended(
        self,
        outcome: Outcome,
        tasks: Sequence[tuple[Batch, Task]],
        why: str,
        exception: BaseException | None = None,
    ) -> list[TaskEvent]:
        """Note how tasks have ended that wait no more."""
        events = []
        self.totals.count(outcome, len(tasks))
        for batch, task in tasks:
            record = batch.settle(task, outcome, why)
            kind: Any = outcome
            events.append(TaskEvent(kind, task, record, exception))
        return events

    def _log_all(self, events: Sequence[TaskEvent], message: str, *args: object) -> None:
        """Log one line: in the context of the tasks if they are of one queue, else in an empty one.

        One that names the tasks of several requests belongs to none of them.
        """
        extra = log_fields.of_all(events)
        context = events[0].task.context.copy() if "queue_id" in extra else Context()
        context.run(self._within, guard.log, logging.WARNING, message, *args, extra=extra)

    def _tell_each(self, events: Sequence[TaskEvent]) -> None:
        here = owner.get()
        for event in events:
            is_observer = isinstance(event.task.func, TaskObserver)
            if is_observer or mode.active.observes or self._hears(event.kind):
                event.task.context.copy().run(self._tell_elsewhere, here, event)

    def _tell_elsewhere(self, here: Batch | None, event: TaskEvent) -> None:
        """Tell in the context of a task what was noted in another, of which something is kept.

        That is on whose behalf it was noted: whose hooks may not wait for all tasks.
        """
        owner.set(here)
        self._within(self._tell_of_the_end, event)

    # Those who hear.

    def _hears(self, *kinds: Kind) -> bool:
        return bool(
            self._on_event is not None
            or instrumentation.is_listened_to()
            or (self._on_error is not None and _ERRORS.intersection(kinds))
            or (self._signals is not None and self._signals.has_receivers(*kinds))
        )

    def _within(self, tell: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Call what tells of a task inside the framework's scope, or without one that is broken."""
        if self._hook_scope is None:
            tell(*args, **kwargs)
            return
        is_told = False
        try:
            with self._hook_scope():
                is_told = True
                tell(*args, **kwargs)
        except BaseException as exc:
            guard.log(logging.ERROR, _BROKEN_SCOPE, exc_info=exc)
            if not is_told:
                tell(*args, **kwargs)

    def _tell_progress(self, event: TaskEvent) -> None:
        if guard.logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            message, extra = "Background task %s %s", log_fields.of(event)
            guard.log(logging.DEBUG, message, event.task.name, event.kind, extra=extra)
        self._observe(event)

    def _tell_failed(self, event: TaskEvent) -> None:
        self._log_failed(event)
        self._tell_of_the_end(event)

    def _log_failed(self, event: TaskEvent) -> None:
        exception = event.exception
        assert exception is not None, "a task that failed has raised something"  # noqa: S101
        message, extra = "Background task %s failed: %s", log_fields.of(event)
        name, what = event.task.name, brief(exception)
        guard.log(logging.ERROR, message, name, what, exc_info=exception, extra=extra)

    def _tell_interrupted(self, event: TaskEvent) -> None:
        exception = event.exception
        assert exception is not None, "a signal handler has raised something"  # noqa: S101
        message, extra = "Background task %s was broken off by a signal: %s", log_fields.of(event)
        guard.log(logging.WARNING, message, event.task.name, brief(exception), extra=extra)
        self._tell_of_the_end(event)

    def _tell_of_the_end(self, event: TaskEvent) -> None:
        if isinstance(event.task.func, TaskObserver):
            self._call(event.task.func.on_task_event, event)
        self._observe(event)

    def _observe(self, event: TaskEvent) -> None:
        mode.active.on_event(event)
        self._tell(event)

    def _tell(self, event: TaskEvent) -> None:
        if self._signals is not None:
            self._call(self._signals.on_event, event)
        for listener in list(instrumentation.listeners):
            self._call(listener, event)
        self._call(self._on_event, event)
        if event.kind in _ERRORS:
            self._call(self._on_error, event)
        for listener in list(instrumentation.last_listeners):
            self._call(listener, event)

    def _call(self, hook: EventHook | None, event: TaskEvent) -> None:
        if hook is None:
            return
        try:
            result = hook(event)
        except BaseException as exc:
            _log_failed_hook(event, exc)
        else:
            if isinstance(result, CoroutineType):  # of which the settings could not know
                result.close()
                _log_failed_hook(event, TypeError(_NEVER_AWAITED))


_ERRORS: frozenset[Kind] = frozenset(("failed", "abandoned"))
_BROKEN_SCOPE = "What the framework enters around hooks has failed"


def _is_cancellation(exception: BaseException) -> bool:
    asyncio: Any = sys.modules.get("asyncio")  # it is not imported for this
    return asyncio is not None and isinstance(exception, asyncio.CancelledError)


def _log_failed_hook(event: TaskEvent, exception: BaseException) -> None:
    message = "The hook for the event %r of %s failed"
    guard.log(logging.ERROR, message, event.kind, event.task.name, exc_info=exception)


def names(tasks: Sequence[Task], most: int = 20) -> str:
    """Name tasks for a log line, the first ``most`` of them."""
    shown = ", ".join(task.name for task in tasks[:most])
    return shown if len(tasks) <= most else f"{shown} and {len(tasks) - most} more"


def because(exception: BaseException) -> str:
    """Say in a log line which exception made a response fail."""
    return f"the response failed with {brief(exception)}"


def brief(exception: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    name = type(exception).__name__

    def message() -> str:
        lines = str(exception).splitlines()
        return f"{name}: {lines[0][:100]}" if lines else name

    return guard.text(message, name)
