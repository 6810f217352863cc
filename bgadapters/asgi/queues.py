"""The queues of responses: each is released by its `Response` alone."""

from __future__ import annotations

from asyncio import get_running_loop

from bgadapters.adapters import (
    BackgroundTasks,
    Batch,
    LazyBatch,
    LiveTasks,
    Runtime,
)


class ResponseQueue(BackgroundTasks):
    """A queue that its `Response` releases, and not the framework's response it may be given to."""

    __slots__ = ("loop",)

    def __init__(self, runtime: Runtime, path: str | None, method: str | None) -> None:
        self.runtime = runtime
        self.batch = Batch(path, 0, None, runtime.scheduler.on_lost, method)
        try:
            self.loop = get_running_loop()
        except RuntimeError:  # trio's
            self.loop = None

    async def __call__(self) -> None:
        """Do nothing: as the ``background`` of a response it would run before the response ends."""


class LazyQueue(LazyBatch):
    """The same where few views add a task."""

    __slots__ = ("loop",)

    def __init__(self, runtime: Runtime, path: str | None, method: str | None) -> None:
        self.runtime = runtime
        try:
            self.loop = get_running_loop()
        except RuntimeError:  # trio's
            self.loop = None
        self.is_used = False
        self.request_path = path
        self.request_method = method
        self.made = {}
        self.noted = None

    async def __call__(self) -> None:
        """Do nothing: as `ResponseQueue`."""


class SocketQueue(LiveTasks):
    """The queue of a WebSocket, which its `Response` closes."""

    __slots__ = ()

    async def __call__(self) -> None:
        """Do nothing: as the ``background`` of a response that denies the connection."""
