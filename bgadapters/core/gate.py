"""What tasks wait for besides their response: a transaction's commit, for one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import ref

from bgadapters.core.exceptions import GateShutError

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


class Gate:
    """Some tasks of a queue run only if this opens; a queue waits until all its gates have decided.

    Args:
        queue: the queue of these tasks.
    """

    why_shut = "their gate was shut"
    """Why tasks were discarded, in the words of a log line."""

    def __init__(self, queue: BackgroundTasks) -> None:
        self._queue = ref(queue)
        self._kept: BackgroundTasks | None = None  # a released queue that waits, kept alive
        self._opened: bool | None = None
        self.tasks: list[Task] = []  # guarded by the queue's lock

    @property
    def opened(self) -> bool | None:
        """Whether it opened; None while that is not decided."""
        return self._opened

    def reason(self) -> Exception:
        """What events give as the exception of a discarded task."""
        return GateShutError(self.why_shut)

    def keep_queue(self) -> None:
        """The queue was released and waits: have it released again at the decision."""
        self._kept = self._queue()

    def let_go(self) -> None:
        """Undo `keep_queue`: the queue need not wait."""
        self._kept = None

    def decide(self, opened: bool) -> None:
        """Open it or shut it for good. Later decisions count for nothing."""
        if self._opened is None:
            self._opened = opened
            waiting, self._kept = self._kept, None
            if waiting is not None:
                waiting.release()
