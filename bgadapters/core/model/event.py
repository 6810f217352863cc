"""One thing that happened to one task, and who may hear of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from bgadapters.core.model.record import NOWHERE, Outcome, Record, Recorded
from bgadapters.core.model.task import Task

Kind = Literal[
    "added",
    "started",
    "succeeded",
    "failed",
    "retrying",
    "overdue",
    "discarded",
    "replaced",
    "abandoned",
    "recovered",
    "sent",
    "engine_down",
    "engine_back",
]
"""What may happen to a task."""


class TaskEvent(Recorded):
    """One thing that happened to one task, as it was then.

    Ids and names are strings that are made when they are asked for. Times are seconds, as
    `time.time` tells them.

    Attributes:
        kind: ``"added"``, ``"started"``, ``"succeeded"``, ``"failed"``,
            ``"retrying"`` (it raised, and will be tried again), ``"overdue"`` (an attempt has
            taken longer than its timeout, and goes on), ``"discarded"`` (its response failed, its
            transaction was rolled back, nothing released its queue, or ``forget`` was called),
            ``"replaced"`` (another task with its key waits in its place) or ``"abandoned"`` (a
            drain ran out of time, or a signal broke it off), ``"recovered"`` (a process that had
            this durable task has ended, and it will run here), ``"sent"`` (its engine has it),
            ``"engine_down"`` (its engine is found to be down, which is told once and not of each
            task) or ``"engine_back"`` (its engine has taken it, after it was down).
        task: the task: ``func``, ``args``, ``kwargs`` (None for none), ``options``, ``name``.
        exception: what it raised, or what caused its discard; None where nothing did.
        attempt: which attempt to run it this is, from 1.
        outcome: how it has ended: ``"succeeded"``, ``"failed"``, ``"discarded"``,
            ``"replaced"``, ``"abandoned"`` or ``"sent"``; None while it goes on.
        reason: why it was discarded, replaced or abandoned, or where it was sent, in words; else
            None.
        stack: of an overdue task what it was doing, as text; else None.
        thread: the name of the thread in which it was called; None if it was not.
        loop: whether it belongs on an event loop, as a coroutine function does.
    """

    __slots__ = (
        "_ended",
        "_started",
        "attempt",
        "exception",
        "kind",
        "loop",
        "outcome",
        "reason",
        "stack",
        "task",
        "thread",
    )

    def __init__(
        self,
        kind: Kind,
        task: Task,
        exception: BaseException | None = None,
        record: Record | None = None,
        stack: str | None = None,
    ) -> None:
        record = record or task.record or Record(NOWHERE, None)
        self.kind: Kind = kind
        self.stack = stack
        self.task = task
        self.exception = exception
        self.attempt = record.attempt
        self.outcome: Outcome | None = record.outcome
        self.reason = record.reason
        self.thread = record.thread
        self.loop = task.is_async
        self._record = record
        self._started = record.started  # of this attempt: the record goes on
        self._ended = record.ended

    @property
    def name(self) -> str:
        """What logs call the task."""
        return self.task.name

    @property
    def task_id(self) -> str:
        """That of the task, the same in all of its events and attempts."""
        return self._record.id

    @property
    def added_at(self) -> float | None:
        """When it was added.

        Where nobody listened to tasks at that time, it is when the first one of its queue was.
        """
        return self._record.wall_clock(self._record.added)

    @property
    def started_at(self) -> float | None:
        """When this attempt began; None if it has not."""
        return self._record.wall_clock(self._started)

    @property
    def ended_at(self) -> float | None:
        """When the task ended; None if it has not."""
        return self._record.wall_clock(self._ended)

    @property
    def wait(self) -> float | None:
        """The seconds from `added_at` to `started_at`; None if it has not begun."""
        return _between(self._record.added, self._started)

    @property
    def duration(self) -> float | None:
        """The seconds from `started_at` to `ended_at`; None if it has not begun, or not ended."""
        return _between(self._started, self._ended)

    def __repr__(self) -> str:
        return f"<TaskEvent {self.kind} {self.task.name}>"


def _between(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


EventHook = Callable[[TaskEvent], object]


class TaskObserver(ABC):
    """A callable that is told, before the application's hooks, what becomes of its own task.

    It is told that the task has failed, is tried again or was discarded or abandoned, and nothing
    else: a task that nobody observes should not cost an event.
    """

    __slots__ = ()

    @abstractmethod
    def on_task_event(self, event: TaskEvent) -> None:
        """Called where it happens; what is raised here is logged and stops nothing."""
