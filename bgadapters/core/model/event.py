"""One thing that happened to one task, and who may hear of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

from bgadapters.core.model.task import Task

Kind = Literal[
    "added",
    "started",
    "succeeded",
    "failed",
    "retrying",
    "discarded",
    "replaced",
    "abandoned",
]


class TaskEvent(NamedTuple):
    """One thing that happened to one task.

    Attributes:
        kind: ``"added"``, ``"started"``, ``"succeeded"``, ``"failed"``,
            ``"discarded"`` (its response failed, its transaction was rolled back, or nothing
            released its queue) or
            ``"abandoned"`` (a drain ran out of time, or a signal broke it off).
        task: the task: ``func``, ``args``, ``kwargs`` (None for none), ``options``, ``name``.
        exception: what it raised, or what caused its discard; None where nothing did.
    """

    kind: Kind
    task: Task
    exception: BaseException | None = None


EventHook = Callable[[TaskEvent], object]


class TaskObserver(ABC):
    """A callable that is told, before the application's hooks, what becomes of its own task.

    It is told that the task has failed or was discarded or abandoned, and nothing else: a task
    that nobody observes should not cost an event.
    """

    __slots__ = ()

    @abstractmethod
    def on_task_event(self, event: TaskEvent) -> None:
        """Called where it happens; what is raised here is logged and stops nothing."""
