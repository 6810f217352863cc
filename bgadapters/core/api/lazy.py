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
        is_used: as the base; set when something has asked for its batch.
        made: keeps what was said above; empty to begin with.
        noted: what is known of the response, to be told to the batch; None if nothing is.
        request_path: that of the request.
        request_method: that of the request.
    """

    __slots__ = ("is_used", "made", "noted", "request_method", "request_path")

    is_used: bool
    made: dict[str, Batch | None]
    noted: tuple[int | str | None, BaseException | None, bool] | None
    request_path: str | None
    request_method: str | None

    @property
    def is_open(self) -> bool:
        """Whether the queue was neither released nor closed yet."""
        made = self.made
        return not made or (made["batch"] is not None and super().is_open)

    def __len__(self) -> int:
        return super().__len__() if self.is_used else 0

    def end_unused(self) -> bool:
        """End it if nothing has asked for its batch; tell whether that has ended it."""
        return not self.is_used and self.made.setdefault("batch", None) is None

    def release(self) -> None:
        """As the base."""
        if self.is_used or self.made.setdefault("batch", None) is not None:  # as `end_unused`
            super().release()

    def close(self, exception: BaseException) -> None:
        """As the base, which does nothing where it has ended."""
        if self.is_open:
            super().close(exception)

    def take_capacity(self) -> bool:
        """As the base: what has no tasks lacks nothing."""
        return not self.is_used or super().take_capacity()

    def note_response(
        self,
        status: int | str | None = None,
        exception: BaseException | None = None,
        client_left: bool = False,
    ) -> None:
        """As the base."""
        if self.noted is None and not self.made:
            self.noted = status, exception, client_left
            if not self.made:  # else it may have been made before it could be told
                return
        super().note_response(status, exception, client_left)

    def __getattr__(self, name: str) -> Any:
        if name != "batch":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        on_lost = self.runtime.scheduler.on_lost
        batch = Batch(self.request_path, 0, None, on_lost, self.request_method)
        made = self.made.setdefault("batch", batch)
        if made is None:  # it was closed
            batch.release(self.release)
            made = batch
        if self.noted is not None:
            made.note_response(*self.noted)
        self.batch = made
        self.is_used = True
        return made
