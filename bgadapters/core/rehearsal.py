"""How tests look on: what the core asks and tells while somebody does.

Nothing of this is in force in a server. `bgadapters.testing` sets the audience; it is one a
process, since a test's requests may be served by any of its threads. A forked child has none.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bgadapters.core import current

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

_audiences: dict[object, Audience] = {}  # by the blocks that are open; the last one looks on
_hooked = False


class Bridge(NamedTuple):
    """How a framework whose connections belong to threads keeps a test's tasks to its thread."""

    to_async: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]
    """Makes a function to be awaited, which is run in the thread that waits for the loop."""
    to_sync: Callable[[Callable[..., Awaitable[Any]]], Callable[..., Any]]
    """Makes a coroutine function one that blocks until it has run."""


@contextmanager
def watched_by(newcomer: Audience, *, as_outermost: bool = False) -> Iterator[None]:
    """Have ``newcomer`` look on during a block, instead of whoever does.

    Blocks need not end in the order in which they began: those of a test and of a fixture that
    outlasts it do not. A response that was begun in a block and that nobody closed, so that its
    queue was never left, is not the current one after it.

    Args:
        newcomer: who looks on.
        as_outermost: it is outside of the blocks that are open, and so has to wait for their end.
    """
    global _audiences
    _hook_once()
    block = object()
    _audiences = (
        {block: newcomer, **_audiences} if as_outermost else {**_audiences, block: newcomer}
    )
    _choose()
    try:
        with current.kept():
            yield
    finally:
        _audiences = {other: who for other, who in _audiences.items() if other is not block}
        _choose()


def _choose() -> None:
    global audience
    audience = next(reversed(_audiences.values()), None)


def _hook_once() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """In a forked child: what it tells would stay in its own memory, where nobody judges it."""
    _audiences.clear()
    _choose()
