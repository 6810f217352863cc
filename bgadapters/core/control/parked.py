"""A batch whose next task waits for its turn, while no worker and no loop is kept for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task

Resume = Callable[[], object]
Name = TypeVar("Name")


class Line(Protocol[Name]):
    """Where batches wait."""

    def leave_line(self, parked: Parked[Name]) -> bool:
        """Have a batch wait no longer; False if it does not wait, as it was granted a place."""
        ...


class Parked(Generic[Name]):
    """A batch that waits for a place. It carries the batch meanwhile, as a drain sees it.

    Args:
        line: where it waits.
        batch: the batch.
        task: the task at its head.
        name: of what it waits for.
        rank: the lowest is the first.
        resume: called when the batch has a place, or needs none any more.
        end: called instead when a drain has given up on the batch.
    """

    __slots__ = ("_end", "_line", "batch", "name", "rank", "resume", "task")

    def __init__(  # noqa: PLR0917  each is said once
        self,
        line: Line[Name],
        batch: Batch,
        task: Task,
        name: Name,
        rank: tuple[int, int],
        resume: Resume,
        end: Resume,
    ) -> None:
        self._line = line
        self._end = end
        self.batch = batch
        self.task = task
        self.name = name
        self.rank = rank
        self.resume = resume

    def __lt__(self, other: Parked[Name]) -> bool:
        return self.rank < other.rank

    def leave_line(self) -> bool:
        """Wait no longer; False if it does not wait, as it was granted a place."""
        return self._line.leave_line(self)

    def abandon(self) -> None:
        """A drain has given up on the batch, in which nothing is left."""
        if self.leave_line():
            self._end()

    def task_has_ended(self) -> None:
        """Do nothing: no task runs."""

    def rescue(self) -> None:
        """Its loop was closed: it will go on elsewhere when it has a place."""
