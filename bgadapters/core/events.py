"""What happened to a task, told to the log and to the application's hooks.

Names come only when they are asked for, so that a task of which nobody wants to
hear costs no string.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from bgadapters.core import rehearsal
from bgadapters.core.task import Task

logger = logging.getLogger("bgadapters")

Kind = Literal["added", "started", "succeeded", "failed", "discarded", "abandoned"]


class TaskEvent(NamedTuple):
    """One thing that happened to one task.

    Attributes:
        kind: ``"added"``, ``"started"``, ``"succeeded"``, ``"failed"``,
            ``"discarded"`` (its response failed, its transaction was rolled back, or nothing
            released its queue) or
            ``"abandoned"`` (a drain ran out of time).
        task: the task: ``func``, ``args``, ``kwargs`` (None for none), ``options``, ``name``.
        exception: what it raised, or what caused its discard; None where nothing did.
    """

    kind: Kind
    task: Task
    exception: BaseException | None = None


EventHook = Callable[[TaskEvent], object]


class Listener(ABC):
    """A callable that hears, before the application's hooks, that its own task has failed or was
    discarded or abandoned.

    It hears of nothing else: a task that nobody listens to should not cost an event.
    """

    __slots__ = ()

    @abstractmethod
    def hear(self, event: TaskEvent) -> None:
        """Called where it happens; what is raised here is logged and stops nothing."""


class Events:
    """The listeners of one application."""

    def __init__(
        self, on_event: EventHook | None = None, on_error: EventHook | None = None
    ) -> None:
        self._on_event = on_event
        self._on_error = on_error

    @property
    def heard(self) -> bool:
        """Whether anyone hears of tasks that merely start and succeed."""
        return (
            self._on_event is not None
            or rehearsal.audience is not None
            or logger.isEnabledFor(logging.DEBUG)
        )

    def added(self, task: Task) -> None:
        """A task was put into a queue."""
        if self._on_event is not None:
            self._tell(TaskEvent("added", task))

    def started(self, task: Task) -> None:
        """A task is about to be called."""
        if logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            logger.debug("Background task %s started", task.name)
        self._tell(TaskEvent("started", task))

    def succeeded(self, task: Task) -> None:
        """A task returned."""
        if logger.isEnabledFor(logging.DEBUG):  # the name costs more than the question
            logger.debug("Background task %s succeeded", task.name)
        self._tell(TaskEvent("succeeded", task))

    def failed(self, task: Task, exception: BaseException) -> None:
        """A task raised: logged at ERROR with its traceback, then given to the hooks."""
        logger.error(
            "Background task %s failed: %s", task.name, _brief(exception), exc_info=exception
        )
        event = TaskEvent("failed", task, exception)
        self._tell_of_the_end(event)
        self._call(self._on_error, event)

    def discarded(
        self, tasks: Sequence[Task], why: str, exception: BaseException | None = None
    ) -> None:
        """Tasks will not run because their response failed: one WARNING for all of them."""
        logger.warning("%d background task(s) discarded, %s: %s", len(tasks), why, names(tasks))
        for task in tasks:
            self._tell_of_the_end(TaskEvent("discarded", task, exception))

    def abandoned(self, tasks: Sequence[Task], timeout: float) -> None:
        """A drain ran out of time: one WARNING that names everything left behind."""
        logger.warning(
            "%d background task(s) abandoned, not finished within the drain timeout of %.3g s: %s",
            len(tasks),
            timeout,
            names(tasks),
        )
        for task in tasks:
            self._tell_of_the_end(TaskEvent("abandoned", task))

    def _tell_of_the_end(self, event: TaskEvent) -> None:
        if isinstance(event.task.func, Listener):
            self._call(event.task.func.hear, event)
        self._tell(event)

    def _tell(self, event: TaskEvent) -> None:
        audience = rehearsal.audience
        if audience is not None:
            audience.told(event)
        self._call(self._on_event, event)

    def _call(self, hook: EventHook | None, event: TaskEvent) -> None:
        if hook is None:
            return
        try:
            hook(event)
        except BaseException:
            # A broken listener must not cost a task: isolation holds for hooks as well.
            logger.exception("The hook for the event %r of %s failed", event.kind, event.task.name)


def names(tasks: Sequence[Task], most: int = 20) -> str:
    """Name tasks for a log line, the first ``most`` of them."""
    shown = ", ".join(task.name for task in tasks[:most])
    return shown if len(tasks) <= most else f"{shown} and {len(tasks) - most} more"


def because(exception: BaseException) -> str:
    """Say in a log line which exception made a response fail."""
    return f"the response failed with {_brief(exception)}"


def _brief(exception: BaseException) -> str:
    name = type(exception).__name__
    try:
        lines = str(exception).splitlines()
    except Exception:  # it is the task's own code that is called here
        lines = []
    return f"{name}: {lines[0][:100]}" if lines else name
