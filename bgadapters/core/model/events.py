"""Tells the log, the observers and the application's hooks what happens to tasks.

A task's name is made only when somebody asks for it, so that a task of which nobody hears costs
no string.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import CoroutineType

from bgadapters.core.model import guard, mode
from bgadapters.core.model.event import EventHook, TaskEvent, TaskObserver
from bgadapters.core.model.hooks import Signals
from bgadapters.core.model.task import Task, Wait

_NEVER_AWAITED = "it has returned a coroutine, and hooks are not awaited: write it with 'def'"


class Events:
    """The events of one application, and who hears of them.

    Args:
        on_event: called for everything that happens to a task. Default: nothing is called.
        on_error: called for each task that raised. Default: nothing is called.
        signals: those of the framework, sent before ``on_event`` is called.
    """

    def __init__(
        self,
        on_event: EventHook | None = None,
        on_error: EventHook | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_error = on_error
        self._signals = signals
        self.has_hooks = on_event is not None or signals is not None

    def has_listeners(self) -> bool:
        """Whether anyone hears of tasks that merely start and succeed."""
        return (
            self._on_event is not None
            or (self._signals is not None and self._signals.has_receivers())
            or mode.active.observes
            or guard.logger.isEnabledFor(logging.DEBUG)
        )

    def added(self, task: Task) -> None:
        """A task was put into a queue. To be called if `has_hooks`."""
        self._tell(TaskEvent("added", task))

    def started(self, task: Task) -> None:
        """A task is about to be called."""
        if guard.logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            guard.log(logging.DEBUG, "Background task %s started", task.name)
        self._observe(TaskEvent("started", task))

    def succeeded(self, task: Task) -> None:
        """A task returned."""
        if guard.logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            guard.log(logging.DEBUG, "Background task %s succeeded", task.name)
        self._observe(TaskEvent("succeeded", task))

    def failed(self, task: Task, exception: BaseException) -> None:
        """A task raised: logged at ERROR with its traceback, then given to the hooks."""
        message = "Background task %s failed: %s"
        guard.log(logging.ERROR, message, task.name, brief(exception), exc_info=exception)
        event = TaskEvent("failed", task, exception)
        self._tell_of_the_end(event)
        self._call(self._on_error, event)

    def retrying(self, task: Task, exception: BaseException, wait: Wait) -> None:
        """An attempt raised and there will be another: logged at WARNING."""
        message = "Background task %s failed in attempt %d, the next begins in %.3g s: %s"
        attempt = getattr(task, "attempt", 1)
        said = brief(exception)
        guard.log(logging.WARNING, message, task.name, attempt, wait.seconds, said)
        self._observe(TaskEvent("retrying", task, exception))

    def interrupted(self, task: Task, exception: BaseException) -> None:
        """A signal handler has raised into a task what is meant for the server: one WARNING."""
        message = "Background task %s was broken off by a signal: %s"
        guard.log(logging.WARNING, message, task.name, brief(exception))
        self._tell_of_the_end(TaskEvent("abandoned", task, exception))

    def discarded(
        self, tasks: Sequence[Task], why: str, exception: BaseException | None = None
    ) -> None:
        """Tasks will not run: one WARNING for all of them."""
        message = "%d background task(s) discarded, %s: %s"
        guard.log(logging.WARNING, message, len(tasks), why, names(tasks))
        for task in tasks:
            self._tell_of_the_end(TaskEvent("discarded", task, exception))

    def replaced(self, task: Task, why: str) -> None:
        """A task will not run, as another one does in its place: logged at INFO."""
        guard.log(logging.INFO, "Background task %s replaced: %s", task.name, why)
        self._tell_of_the_end(TaskEvent("replaced", task))

    def forgotten(self, task: Task, why: str) -> None:
        """A task will not run, as the application has asked for: logged at INFO."""
        guard.log(logging.INFO, "Background task %s discarded: %s", task.name, why)
        self._tell_of_the_end(TaskEvent("discarded", task))

    def abandoned(self, tasks: Sequence[Task], timeout: float) -> None:
        """A drain ran out of time: one WARNING that names everything left behind."""
        guard.log(
            logging.WARNING,
            "%d background task(s) abandoned, not finished within the drain timeout of %.3g s: %s",
            len(tasks),
            timeout,
            names(tasks),
        )
        for task in tasks:
            self._tell_of_the_end(TaskEvent("abandoned", task))

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
        self._call(self._on_event, event)

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
