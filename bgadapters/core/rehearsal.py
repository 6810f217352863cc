"""How tests look on: what the core asks and tells while somebody does.

Nothing of this is in force in a server. `bgadapters.testing` sets the audience; it is one a
process, since a test's requests may be served by any of its threads. A forked child has none.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from bgadapters.core.events import TaskEvent
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


class Audience(Protocol):
    """Who looks on. Tasks then run in the thread that releases their queue, if it runs no loop.

    It is called from any thread, and by `keeps` with the lock of the queue held.
    """

    strict_portable: bool
    """Whether ``add_task`` refuses what is not portable, as with the setting."""

    def added(self, queue: BackgroundTasks, task: Task) -> None:
        """A task was put into a queue."""

    def told(self, event: TaskEvent) -> None:
        """Something else happened to a task."""

    def keeps(self, queue: BackgroundTasks, tasks: Sequence[Task]) -> bool:
        """A queue is being released. Whether its tasks are kept from running, to be put back."""


audience: Audience | None = None  # read it once: another thread may be about to change it

_hooked = False


class Bridge(NamedTuple):
    """How a framework whose connections belong to threads keeps a test's tasks to its thread."""

    to_async: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]
    """Makes a function to be awaited, which is run in the thread that waits for the loop."""
    to_sync: Callable[[Callable[..., Awaitable[Any]]], Callable[..., Any]]
    """Makes a coroutine function one that blocks until it has run."""


@contextmanager
def watched_by(newcomer: Audience) -> Iterator[None]:
    """Have ``newcomer`` look on during a block, instead of whoever does."""
    global audience, _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_forget)
    previous, audience = audience, newcomer
    try:
        yield
    finally:
        audience = previous


def _forget() -> None:
    """In a forked child: what it tells would stay in its own memory, where nobody judges it."""
    global audience
    audience = None
