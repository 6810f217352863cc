"""The state machine of what has no response to wait for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from bgadapters.core.model.batch import Batch, Effects
from bgadapters.core.model.batch_state import DONE, OPEN
from bgadapters.core.model.task import Task


class LiveBatch(Batch):
    """The tasks of a connection that lasts: it is open again when they have run, until it ends."""

    __slots__ = ("_end_state", "is_live")

    def __init__(
        self,
        path: str | None = None,
        priority: int = 0,
        due: float | None = None,
        on_lost: Callable[[Batch, Effects], object] | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__(path, priority, due, on_lost, method)
        self._end_state = OPEN  # guarded by _lock
        self.is_live = True  # guarded by _lock

    def end(self) -> None:
        """The connection is over: only the batch's own tasks may add more. What waits runs."""
        with self._lock:
            self._end_state, self.is_live = DONE, False
            if self.state is OPEN and not self.waiting:
                self.state = DONE

    def _alike_locked(self, priority: int, due: float | None = None) -> Self:
        alike = super()._alike_locked(priority, due)
        alike.is_live, alike._end_state = False, DONE  # noqa: SLF001  its own class
        return alike

    def _admit_own_locked(self, task: Task, limit: int | None) -> None:
        if self._end_state is not OPEN:
            super()._admit_own_locked(task, limit)
