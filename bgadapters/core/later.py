"""A queue whose tasks are not to start before a time."""

from __future__ import annotations

from typing import Any

from bgadapters.core.exceptions import QueueFullError
from bgadapters.core.queue import BackgroundTasks
from bgadapters.core.runtime import Runtime
from bgadapters.core.task import Options, Task, callable_name


class LaterTasks(BackgroundTasks):
    """A queue that waits, once it is released, until its time has come.

    What waits for a time has a bound of its own, of ``max_pending`` as well: tasks for tomorrow
    should not fill the backlog of today. Its async tasks run on the runtime's own loop, since a
    server's may have ended by then.

    Args:
        due: the time before which no task starts, as `time.monotonic` tells it.
        runtime: as `BackgroundTasks`.
        priority: as `BackgroundTasks`.
    """

    __slots__ = ("_due",)

    def __init__(self, due: float, *, runtime: Runtime | None = None, priority: int = 0) -> None:
        super().__init__(runtime=runtime, priority=priority)
        self._due = due

    def release(self) -> None:
        """The response is complete: let the tasks run when it is time."""
        if self._begin():
            self.runtime.start_later(self, self._due)
        self._release_attached()

    async def arelease(self) -> None:
        """Do as `release`: nobody waits for a later time."""
        self.release()

    def _add(
        self, options: Options, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self.is_open and self.runtime.timer.is_full:
            raise QueueFullError(
                f"cannot add {options.name or callable_name(func)}: "
                f"{self.runtime.settings.max_pending} tasks wait for a later time already "
                "(max_pending)."
            )
        super()._add(options, func, args, kwargs)

    def _reserve_one(self, task: Task) -> None:
        if not self.is_open:  # before it is time there is no place to be taken
            super()._reserve_one(task)
