"""A queue that costs little as long as nothing is added to it."""

from __future__ import annotations

from typing import Any

from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.model.batch import Batch


class LazyBatch(BackgroundTasks):
    """Makes its batch when something asks for that: most requests add no task.

    A dictionary keeps the first batch that it is given, or that there is to be none. So two threads
    that ask get the same one, and a queue that was closed meanwhile stays so.

    Kinds of it set these attributes by themselves: to call the constructor would cost each request.

    Attributes:
        is_used: whether it has a batch, since something has asked for that.
        made: keeps what was said above; empty to begin with.
        request_path: that of the request.
        request_method: that of the request.
    """

    __slots__ = ("is_used", "made", "request_method", "request_path")

    is_used: bool
    made: dict[str, Batch | None]
    request_path: str | None
    request_method: str | None

    @property
    def is_open(self) -> bool:
        """Whether the queue was neither released nor closed yet."""
        return not self.made or super().is_open

    def __len__(self) -> int:
        return super().__len__() if self.is_used else 0

    def end_unused(self) -> bool:
        """End it if nothing has asked for its batch; tell whether that has ended it."""
        return not self.is_used and self.made.setdefault("batch", None) is None

    def release(self) -> None:
        """As the base."""
        if not self.end_unused():
            super().release()

    def __getattr__(self, name: str) -> Any:
        if name != "batch":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        on_lost = self.runtime.scheduler.on_lost
        batch = Batch(self.request_path, 0, None, on_lost, self.request_method)
        made = self.made.setdefault("batch", batch)
        if made is None:  # it was closed
            batch.release(self.release)
            made = batch
        self.batch = made
        self.is_used = True
        return made
