"""How tasks run in this process: as in a server, or as in a test.

There is one mode for the process, since the threads of a live server answer a test as well. The
core and the shims ask it; they never ask whether they are being tested.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgadapters.core.model.batch import Batch
    from bgadapters.core.model.event import TaskEvent
    from bgadapters.core.model.task import Task


class Serving:
    """Tasks run after their response, and whoever serves it closes it.

    Each method is one place where a test goes another way; `bgadapters.testing` has that one.
    """

    observes = False
    """Whether `added` and `on_event` are to be told of every task."""
    strict_portable = False
    """Whether ``add_task`` refuses what is not portable, as with the setting."""
    shares_connections = False
    """Whether tasks use the database connections, and so the transaction, of whoever runs them."""
    awaits_tasks = False
    """Whether the ASGI call of a response waits for its tasks whatever the setting says."""
    takes_time = True
    """Whether tasks wait for a time that is to come, and between two attempts."""
    drains_on_signals = True
    """Whether a signal that ends the process waits for tasks."""

    def added(self, batch: Batch, task: Task, scheduler: Any) -> None:
        """A task was put into a batch of this scheduler."""

    def on_event(self, event: TaskEvent) -> None:
        """Something else happened to a task."""

    def intercepts(self, batch: Batch, scheduler: Any) -> bool:  # noqa: ARG002  a test's uses them
        """Whether the mode takes a batch that was just released, to run it or not."""
        return False

    def before_release(self, batches: Sequence[Batch], scheduler: Any) -> None:
        """Those of a response that have left its order are about to be released, one by one."""

    def serve_wsgi(
        self, serve: Callable[..., Iterable[bytes]], environ: Any, start_response: Any
    ) -> Iterable[bytes]:
        """Make a response of ``serve``; the server closes it."""
        return serve(environ, start_response)

    def release_wsgi(self, release: Callable[[], None]) -> None:
        """Release the queue of a response that was closed."""
        release()

    def drop_wsgi(self, settle: Callable[[], None]) -> None:
        """A response was dropped that nobody has closed, by the collector."""
        settle()

    def end_response(self, request: Any, response: Any, finish: Callable[[], None]) -> None:
        """Django has made a response, which it closes itself."""

    async def aend_response(
        self,
        request: Any,
        response: Any,
        finish: Callable[[], None],
        afinish: Callable[[], Awaitable[None]],
    ) -> None:
        """Do as `end_response`, where a view is awaited."""

    def fail_response(self, request: Any, finish: Callable[[], None]) -> None:
        """A view of Django's has failed, of which Django makes a response that it closes."""

    def keeps_open(self, queue: Any) -> bool:  # noqa: ARG002  a test's uses it
        """Whether tasks may be added to a queue of Django's whose response is complete."""
        return False

    def end_stream(self, release: Callable[[], None]) -> None:
        """The last part of a stream was made; the server closes it."""

    async def aend_stream(self, release: Callable[[], Any]) -> None:
        """Do as `end_stream`, for an asynchronous stream."""

    def releases_here(self) -> bool:
        """Whether a response that is closed in a thread runs its tasks there, not on its loop."""
        return False

    def own_connections(self, found: Sequence[Any]) -> Sequence[Any]:
        """Return those of the connections of this thread that tasks may close: all."""
        return found

    def database_scope(self) -> AbstractContextManager[Any]:
        """Return what is entered around a task in the thread of its database connections."""
        return nullcontext()


SERVING = Serving()
active: Serving = SERVING
"""The mode in force. Read it once: another thread may be about to change it."""


def activate(mode: Serving) -> None:
    """Put a mode in force."""
    global active
    active = mode
