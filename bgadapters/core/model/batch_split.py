"""How tasks leave a batch for another one, which to others is the same queue.

What is flushed runs before its response is complete, what has a time or a priority of its own in no
order, and what is tried again without holding up those behind it.
"""

from __future__ import annotations

from functools import partial
from typing import Self

from bgadapters.core.model.batch_state import OPEN, BatchState
from bgadapters.core.model.precondition import Precondition, for_failures
from bgadapters.core.model.record import next_number
from bgadapters.core.model.task import Task, has_ended


class Follows(Precondition):
    """The batch that was flushed before has finished."""

    def __init__(self, first: BatchState) -> None:
        super().__init__()
        self.first = first

    def is_up_to_this_thread(self) -> bool:
        """Whether that one waits for what only this thread can resolve."""
        return self.first.waits_for_this_thread()


class SplitBatch(BatchState):
    """What a `Batch` does to give tasks to others."""

    __slots__ = ()

    def flush(self) -> Self | None:
        """Move what was added so far to a batch of its own, to be released now.

        What is added from now on waits until that has finished, as in one batch. Tasks for a
        response that fails stay, as long as nobody knows whether it does.

        Returns:
            That batch; None if nothing waits, or this one was released or closed.
        """
        with self._lock:
            if self.state is not OPEN:
                return None
            for_errors = for_failures(self.preconditions)
            staying = {task for each in for_errors for task in each.tasks}
            moving = {task for task in list(self.waiting) if task not in staying}
            if not moving:
                return None
            first = self._split_locked(moving)
            first.part_of = self
            first.preconditions = [each for each in first.preconditions if each not in for_errors]
            follows = Follows(first)
            first.callbacks = [partial(follows.resolve, True)]
            self.preconditions = [*for_errors, follows]
            self._flushed += len(moving)
            for task in moving.intersection(self._answers or ()):
                del self._answers[task]  # type: ignore[union-attr]  # it has the task
            return first

    def set_apart(self, task: Task, due: float) -> Self | None:
        """Give the task that runs a batch of its own, open to be released, in which it waits.

        It keeps the capacity that was taken for it.

        Args:
            task: the task that runs.
            due: as for the constructor.

        Returns:
            The batch; None if a drain has given up on the task.
        """
        with self._lock:
            if has_ended(task):
                return None
            apart = self._batch_for_locked(task, due)
            apart.capacity = min(self.capacity, 1)
            self.capacity -= apart.capacity
            return apart

    def alike(self) -> Self:
        """Return another batch, open and without tasks, which to others is the same queue."""
        with self._lock:
            return self._alike_locked(self.priority)

    def earlier(self) -> list[BatchState]:
        """The unfinished batches that were flushed before this one, the oldest first."""
        found: list[BatchState] = []
        before = _unfinished_before(self)
        while before is not None:
            found.insert(0, before)
            before = _unfinished_before(before)
        return found

    def _split_locked(self, tasks: set[Task]) -> Self:
        """Move tasks, and what they wait for, to a new batch."""
        later = self._alike_locked(self.priority)
        later.is_checked, later.sorts = True, self.sorts
        if self._apart is not None:
            moving = self._apart & tasks
            later._apart, self._apart = moving, self._apart - tasks  # noqa: SLF001  its own class
        later.preconditions, self.preconditions = self.preconditions, ()
        later.waiting.extend(task for task in self.waiting if task in tasks)
        later.capacity = self._take_locked(list(later.waiting))
        return later

    def _set_apart_locked(self) -> tuple[int, list[Self]]:
        """Give the tasks that leave the order a batch each; return what capacity is left over."""
        if not self._apart:
            return 0, []
        apart, self._apart = self._apart, None
        tasks = [task for task in list(self.waiting) if task in apart]
        freed = self._take_locked(tasks)  # which changes the capacity
        self.capacity += freed
        spare = max(0, self.capacity - len(self.waiting))
        self.capacity -= spare
        batches = [self._batch_for_locked(task, task.due()) for task in tasks]
        for batch in batches:
            if batch.due is None and spare:
                batch.capacity = 1
                spare -= 1
        return spare, batches

    def _batch_for_locked(self, task: Task, due: float | None) -> Self:
        apart = self._alike_locked(task.options.priority, due)
        apart.is_checked = self.is_checked
        apart.waiting.append(task)
        return apart

    def _alike_locked(self, priority: int, due: float | None = None) -> Self:
        """Make another batch, which to others is the same queue."""
        if self._number is None:
            self._number = next_number()
        alike = type(self)(self.path, priority, due, self._on_lost, self.method)
        alike._number, alike.added = self._number, self.added  # noqa: SLF001  its own class
        alike.origin_loop = self.origin_loop
        alike.response, alike.part_of = self.response, self.part_of
        return alike


def _unfinished_before(batch: BatchState) -> BatchState | None:
    for each in list(batch.preconditions):
        if isinstance(each, Follows) and each.fulfilled is None:
            return each.first
    return None
