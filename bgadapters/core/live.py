"""A queue whose tasks start as they are added: of what has no response to wait for."""

from __future__ import annotations

import asyncio

from bgadapters.core.exceptions import QueueFullError
from bgadapters.core.queue import DONE, OPEN, RUNNING, BackgroundTasks
from bgadapters.core.runtime import Runtime, loop_runs_here
from bgadapters.core.task import Options, Task


class LiveTasks(BackgroundTasks):
    """The tasks of a connection that lasts, such as a WebSocket.

    They run one at a time in the order added, from the moment when they are added until the
    queue is closed. At most ``max_pending`` of them wait. Its async tasks belong to the event loop
    on which the queue was made, wherever they are added.

    Args:
        runtime: as `BackgroundTasks`.
        path: as `BackgroundTasks`.
    """

    __slots__ = ("_closed", "_origin")

    def __init__(self, *, runtime: Runtime | None = None, path: str | None = None) -> None:
        super().__init__(runtime=runtime, path=path)
        self._closed = False  # guarded by _lock
        self._origin = asyncio.get_running_loop() if loop_runs_here() else None

    @property
    def is_open(self) -> bool:
        """Whether tasks may be added."""
        return not self._closed

    def release(self) -> None:
        """Start what waits, unless it runs already. The queue stays open."""
        self._home = self._origin
        super().release()

    def close(self) -> None:
        """The connection is over: no task may be added any more. Those that were added run."""
        with self._lock:
            self._closed = True
            if self._state is OPEN:
                self._state = DONE

    async def arelease(self) -> None:
        """Close, and wait until the tasks have run. Cancelling the wait cancels no task."""
        self.close()
        if self.is_running:
            from bgadapters.core.waiting import finished

            await finished(self)

    def drop(self, exception: BaseException, since: int = 0) -> None:
        """Do nothing: the tasks were handed over when they were added."""

    def discard(self, exception: BaseException) -> None:  # noqa: ARG002
        """Do as `close`: the tasks were handed over when they were added."""
        self.close()

    def attach(self, queue: BackgroundTasks) -> None:
        """Release the other queue at once."""
        queue.release()

    def _add(
        self, options: Options, func: object, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        super()._add(options, func, args, kwargs)
        self.release()

    def _admit_own(self, task: Task) -> None:
        if self._closed:
            super()._admit_own(task)
            return
        limit = self.runtime.settings.max_pending
        if len(self._tasks) >= limit:
            raise QueueFullError(
                f"cannot add {task.name}: {limit} tasks of this connection wait already "
                "(max_pending). Add fewer for each message, or raise max_pending or max_workers."
            )
        if self._state is RUNNING:
            if self.runtime.rejects:
                self._reserve_one(task)
            else:
                self.runtime.backlog.reserve(1)
                self._slots += 1

    def _state_when_done(self) -> str:
        return DONE if self._closed else OPEN
