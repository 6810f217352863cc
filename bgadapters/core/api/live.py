"""A queue whose tasks start as they are added: of what has no response to wait for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, Unpack

from bgadapters.core.api.tasks import BackgroundTasks, WithOptions
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.drivers.loops import running_loop
from bgadapters.core.model.live_batch import LiveBatch
from bgadapters.core.model.options import OptionNames, TaskOptions
from bgadapters.core.model.task import Task

P = ParamSpec("P")


class LiveTasks(BackgroundTasks):
    """The tasks of a connection that lasts, such as a WebSocket.

    They run one at a time in the order added, from the moment when they are added until the
    queue ends. At most ``max_pending`` of them wait. Its async tasks belong to the event loop
    on which the queue was made, wherever they are added.

    Args:
        runtime: as `BackgroundTasks`.
        path: as `BackgroundTasks`.
        method: as `BackgroundTasks`.
    """

    __slots__ = ("_ending", "_origin")

    is_plain = False  # what is added has to be let in, and a time of its own

    def __init__(
        self,
        *,
        runtime: Runtime | None = None,
        path: str | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__(runtime=runtime, path=path, method=method)
        self.batch = self._ending = LiveBatch(
            path, on_lost=self.runtime.scheduler.on_lost, method=method
        )
        self._origin: object = running_loop()

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call to be made now, after those that were added before."""
        super().add_task(func, *args, **kwargs)
        self.release()

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        """Return this queue's ``add_task`` with options; as `BackgroundTasks.options`."""
        return _LiveWithOptions(self, TaskOptions.parsed(base, options, "options"))

    @property
    def is_open(self) -> bool:
        """Whether tasks may be added."""
        return self.batch.is_live

    def take_capacity(self) -> bool:
        """True: each task has taken its room when it was added."""
        return True

    def release(self) -> None:
        """Start what waits, unless it runs already. The queue stays open."""
        self.batch.origin_loop = self._origin
        super().release()

    def end(self) -> None:
        """The connection is over: no task may be added any more. Those that were added run."""
        self._ending.end()

    def begin_release(self) -> Coroutine[Any, Any, None] | None:
        """End; as `BackgroundTasks.begin_release`."""
        self.end()
        return super().begin_release()

    def discard(
        self,
        exception: BaseException,
        since: int = 0,
        which: Callable[[Task], bool] | None = None,
    ) -> None:
        """Do nothing: the tasks were handed over when they were added."""

    def close(self, exception: BaseException) -> None:  # noqa: ARG002
        """Do as `end`: the tasks were handed over when they were added."""
        self.end()

    def flush(self) -> None:
        """Do nothing: the tasks start as they are added."""


class _LiveWithOptions(WithOptions):
    __slots__ = ("_queue",)

    def __init__(self, queue: Any, given: TaskOptions) -> None:
        super().__init__(queue, given)
        self.is_plain = False
        self._queue = queue

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        super().add_task(func, *args, **kwargs)
        self._queue.release()

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        given = TaskOptions.parsed(base, options, "options")
        return _LiveWithOptions(self._queue, given.based_on(self.given))
