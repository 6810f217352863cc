"""Tells the log, the observers and the application's hooks what happens to tasks.

All of that is told in the task's own context, and inside the framework's scope: what is logged and
reported has the request's id, user and trace. A task that runs is told of where it runs. What did
not run is told of in a copy of its context.

A task's name is made only when somebody asks for it, so that a task of which nobody hears costs
no string.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Literal

from bgadapters.core import host
from bgadapters.core.model import guard, instrumentation, lines, log_fields, mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.errors import EngineUnavailableError
from bgadapters.core.model.event import EventHook, Kind, TaskEvent, TaskObserver
from bgadapters.core.model.hooks import FrameworkHooks
from bgadapters.core.model.task import Task, Wait
from bgadapters.core.model.totals import Totals

_NEVER_AWAITED = "it has returned a coroutine, and hooks are not awaited: write it with 'def'"


class Events:
    """The events of one application, and who hears of them.

    Args:
        on_event: called for everything that happens to a task. Default: nothing is called.
        on_error: called for each task that has failed or was abandoned. Default: nothing is called.
        hooks: those of the framework: its signals, sent before ``on_event`` is called, and its
            scopes. Default: none.

    Attributes:
        totals: how many tasks have not succeeded.
    """

    def __init__(
        self,
        on_event: EventHook | None = None,
        on_error: EventHook | None = None,
        hooks: FrameworkHooks | None = None,
    ) -> None:
        self._on_event = on_event
        self._on_error = on_error
        hooks = hooks or FrameworkHooks()
        self._signals = hooks.signals
        self._hook_scope = hooks.hook_scope
        self._enter_to_log = hooks.enter_to_log
        self.totals = Totals()

    def has_hooks(self) -> bool:
        """Whether anyone may want to know of a task what is known only when it is added."""
        return self.has_own_hooks() or (self._signals is not None and self._signals.has_receivers())

    def has_own_hooks(self) -> bool:
        """Whether the application, or what watches it, does: others than receivers of signals."""
        return bool(
            self._on_event is not None
            or self._on_error is not None
            or instrumentation.is_listened_to()
        )

    def has_listeners(self) -> bool:
        """Whether anyone hears of tasks that merely start and succeed."""
        return bool(
            self._on_event is not None
            or instrumentation.listeners
            or instrumentation.last_listeners
            or (self._signals is not None and self._signals.has_receivers("started", "succeeded"))
            or mode.active.observes
            or guard.logger.isEnabledFor(logging.DEBUG)
        )

    def added(self, batch: Batch, task: Task) -> None:
        """A task was put into a queue. To be called where it was, if `has_hooks`."""
        if self._hears("added"):
            self._tell(TaskEvent("added", task, None, batch.recorded(task)))

    def recovered(self, batch: Batch, task: Task) -> None:
        """A task that another process has kept will run here. To be told in the task's context."""
        event = TaskEvent("recovered", task, None, batch.recorded(task))
        message, extra = "Background task %s was recovered from the store", log_fields.of(event)
        self._log(logging.INFO, message, event.name, extra=extra)
        self._within_scope(self._observe, event)

    def started(self, batch: Batch, task: Task) -> None:
        """A task is about to be called, or sent: of that nothing is told."""
        if task.is_sent:
            return
        record = batch.recorded(task)
        record.thread = threading.current_thread().name
        self._tell_progress(TaskEvent("started", task, None, record))

    def succeeded(self, batch: Batch, task: Task) -> None:
        """A task returned."""
        record = batch.end_task(task, "succeeded")
        if record is not None:  # else a drain has given up on it
            self._tell_progress(TaskEvent("succeeded", task, None, record))

    def failed(self, batch: Batch, task: Task, exception: BaseException) -> None:
        """A task raised: logged at ERROR with its traceback, then given to the hooks.

        One that could not be sent has raised nothing, and has no traceback that would tell more.
        One on which a drain has given up was told of. It is cancelled, and what else it raises is
        logged.
        """
        record = batch.end_task(task, "failed")
        if record is not None:
            record.thread = record.thread or threading.current_thread().name
            self.totals.count("failed")
        elif _is_cancellation(exception):
            return
        event = TaskEvent("failed", task, exception, record)
        message, extra = "Background task %s failed: %s", log_fields.of(event)
        name, what = event.name, brief(exception)
        traceback: BaseException | None = exception
        if task.is_sent and isinstance(exception, EngineUnavailableError):
            what, traceback = brief(exception, most=_WHOLE), None
        elif task.failures:
            what = f"{what}; attempt {event.attempt}, after {', '.join(task.failures)}"
        logged_in = self._log(logging.ERROR, message, name, what, extra=extra, exc_info=traceback)
        if record is None:
            return
        if logged_in is None:
            self._tell_of_the_end(event)
        else:  # where what sends the log somewhere knows that it has sent this exception
            logged_in.run(self._tell_of_the_end, event)

    def retrying(self, batch: Batch, task: Task, exception: BaseException, wait: Wait) -> None:
        """An attempt has raised and there will be another: logged at WARNING, if that is news."""
        record = batch.recorded(task)
        record.thread = record.thread or threading.current_thread().name
        event = TaskEvent("retrying", task, exception, record)
        message = "Background task %s failed in attempt %d, and is tried again %s: %s"
        digits = ".3g" if wait.seconds < 1000 else ".0f"
        when = f"in {wait.seconds:{digits}} s" if wait.seconds else "at once"
        what = brief(exception, most=_WHOLE if task.is_sent else 100)
        args, extra = (event.name, event.attempt, when, what), log_fields.of(event)
        self._log(logging.WARNING if wait.is_news else logging.DEBUG, message, *args, extra=extra)
        self._tell_of_the_end(event)

    def overdue(self, batch: Batch, task: Task, seconds: float, stack: str | None) -> None:
        """An attempt has taken longer than it may, and goes on: one WARNING.

        To be called in the task's own context, or in a copy of it.

        Args:
            batch: its batch.
            task: the task.
            seconds: what it may take.
            stack: what it is doing, as text. None if it ends just now.
        """
        event = TaskEvent("overdue", task, None, batch.recorded(task), stack)
        where = "It ends now" if stack is None else f"It is here:\n{stack}"
        message = "Background task %s has taken longer than its timeout of %.3g s. %s"
        args = event.name, seconds, where
        self._log(logging.WARNING, message, *args, extra=log_fields.of(event))
        if self._has_listener_for(event):
            self._within_scope(self._observe, event)

    def interrupted(self, batch: Batch, task: Task, exception: BaseException) -> None:
        """A signal handler has raised into a task what is meant for the server: one WARNING."""
        record = batch.end_task(task, "abandoned", "a signal has broken it off")
        if record is not None:  # else a drain has given up on it
            self.totals.count("abandoned")
            event = TaskEvent("abandoned", task, exception, record)
            message = "Background task %s was broken off by a signal: %s"
            extra = log_fields.of(event)
            self._log(logging.WARNING, message, event.name, brief(exception), extra=extra)
            self._tell_of_the_end(event)

    def not_run(
        self,
        batch: Batch,
        task: Task,
        outcome: Literal["replaced", "abandoned", "sent"],
        reason: str,
    ) -> None:
        """A task is not called though its turn has come. To be told in the task's context."""
        record = batch.end_task(task, outcome, reason)
        if record is not None:  # else a drain has given up on it
            self.totals.count(outcome)
            event = TaskEvent(outcome, task, None, record)
            if guard.logger.isEnabledFor(_LEVELS[outcome]):  # the name costs more than this
                message, extra = "Background task %s was not run here: %s", log_fields.of(event)
                self._log(_LEVELS[outcome], message, event.name, reason, extra=extra)
            self._tell_of_the_end(event)

    def engine_changed(
        self, batch: Batch, task: Task, kind: Literal["engine_down", "engine_back"], what: str
    ) -> None:
        """An engine was found to be down, or back. To be told in the task's context."""
        event = TaskEvent(kind, task, None, batch.recorded(task))
        level = logging.WARNING if kind == "engine_down" else logging.INFO
        self._log(level, "%s; found by %s", what, event.name, extra=log_fields.of(event))
        if self._has_listener_for(event):
            self._within_scope(self._observe, event)

    def discarded(
        self,
        batch: Batch,
        tasks: Sequence[Task],
        why: str,
        exception: BaseException | None = None,
        level: int = logging.WARNING,
    ) -> None:
        """Tasks will not run: one line in the log for all of them."""
        if tasks:
            self._end_all("discarded", [(batch, task) for task in tasks], why, exception, level)

    def replaced(self, batch: Batch, task: Task, why: str) -> None:
        """A task will not run, as another one does in its place: logged at INFO."""
        self._end_all("replaced", [(batch, task)], why, level=logging.INFO)

    def forgotten(self, batch: Batch, task: Task, why: str) -> None:
        """A task will not run, as the application has asked for: logged at INFO."""
        self._end_all("discarded", [(batch, task)], why, level=logging.INFO)

    def abandoned(self, left: Sequence[tuple[Batch, Task]], timeout: float) -> None:
        """A drain ran out of time: one WARNING that names everything left behind.

        Another one names what is not lost by it.
        """
        why = f"not finished within the drain timeout of {timeout:.3g} s"
        kept = [each for each in left if each[1].is_kept]
        lost = [each for each in left if not each[1].is_kept]
        if lost:
            self._end_all("abandoned", lost, why)
        if kept:
            why += ", but kept in the store, for the next process to run"
            self._end_all("abandoned", kept, why)

    # Ends of tasks that do not run here.

    def _end_all(
        self,
        outcome: _Unrun,
        tasks: Sequence[tuple[Batch, Task]],
        why: str,
        exception: BaseException | None = None,
        level: int = logging.WARNING,
    ) -> None:
        """Tell how tasks have ended that wait no more, or on which somebody has given up."""
        self.totals.count(outcome, len(tasks))
        events = [
            TaskEvent(outcome, task, exception, batch.settle(task, outcome, why))
            for batch, task in tasks
        ]
        fields = log_fields.of_all(events)
        # One line names all of them. If they are of several requests it belongs to none of these.
        context = events[0].task.context.copy() if "queue_id" in fields else Context()
        shown = names([task for _, task in tasks])
        message = "%d background task(s) %s, %s: %s"
        args = level, message, len(tasks), outcome, why, shown
        context.run(self._log, *args, extra=fields)
        here = owner.get()
        for event in events:
            if self._has_listener_for(event):
                event.task.context.copy().run(self._tell_elsewhere, here, event)

    def _tell_elsewhere(self, here: Batch | None, event: TaskEvent) -> None:
        """Tell, in a copy of the context of a task, what was noted in another one.

        Of that one it is kept on whose behalf it was noted: whose hooks may not wait for all tasks.
        """
        owner.set(here)
        self._tell_of_the_end(event)

    # Those who hear.

    def _hears(self, *kinds: Kind) -> bool:
        return bool(
            self._on_event is not None
            or instrumentation.is_listened_to()
            or (self._on_error is not None and not _ERRORS.isdisjoint(kinds))
            or (self._signals is not None and self._signals.has_receivers(*kinds))
        )

    def _has_listener_for(self, event: TaskEvent) -> bool:
        task = event.task
        is_observed = isinstance(task.func, TaskObserver) or task.observer is not None
        return is_observed or mode.active.observes or self._hears(event.kind)

    def _log(
        self,
        level: int,
        message: str,
        *args: object,
        extra: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> Context | None:
        """Log in this context; in a copy of it, where the framework has something to enter.

        Returns:
            That copy; None if there is none.
        """
        if self._enter_to_log is None:
            guard.log(level, message, *args, exc_info=exc_info, extra=extra)
            return None

        def log(enter: Callable[[], object]) -> None:
            guard.call(enter, doing=_SCOPE)
            guard.log(level, message, *args, exc_info=exc_info, extra=extra)

        context = copy_context()
        context.run(log, self._enter_to_log)
        return context

    def _tell_progress(self, event: TaskEvent) -> None:
        if guard.logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            message, extra = "Background task %s %s", log_fields.of(event)
            self._log(logging.DEBUG, message, event.name, event.kind, extra=extra)
        if self._has_listener_for(event):
            self._within_scope(self._observe, event)

    def _tell_of_the_end(self, event: TaskEvent) -> None:
        if self._has_listener_for(event):
            self._within_scope(self._observe_the_end, event)

    def _within_scope(self, tell: EventHook, event: TaskEvent) -> None:
        """Call what calls hooks inside the framework's scope; without it if that is broken."""
        if self._hook_scope is None:
            tell(event)
            return
        is_told = False
        try:
            with self._hook_scope():
                is_told = True
                tell(event)
        except BaseException as exc:
            guard.log(logging.ERROR, "%s failed", _SCOPE, exc_info=exc)
            if not is_told:
                tell(event)

    def _observe_the_end(self, event: TaskEvent) -> None:
        for each in (event.task.func, event.task.observer):
            if isinstance(each, TaskObserver):
                self._call(each.on_task_event, event)
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


_Unrun = Literal["discarded", "replaced", "abandoned"]
_LEVELS = {"replaced": logging.INFO, "abandoned": logging.WARNING, "sent": logging.DEBUG}
_ERRORS: frozenset[Kind] = frozenset(("failed", "abandoned"))
_WHOLE = 1000  # letters of a message that begins with the id and the name of a task
_SCOPE = "What the framework enters around logs and hooks"


def _is_cancellation(exception: BaseException) -> bool:
    asyncio = host.imported("asyncio")
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


def brief(exception: BaseException, most: int = 100) -> str:
    """Return the type of an exception and the first line of its message, so many letters of it."""
    name = type(exception).__name__

    def message() -> str:
        lines = str(exception).splitlines()
        return f"{name}: {lines[0][:most]}" if lines else name

    return lines.text(message, name)
