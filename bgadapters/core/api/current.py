"""Which queue belongs to the response being made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol

from bgadapters.core.model.errors import NoResponseError

P = ParamSpec("P")


class Queue(Protocol):
    """What `add_task` adds to."""

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a task."""
        ...


_current: ContextVar[Any] = ContextVar("bgadapters.current", default=None)


def enter(queue: Queue) -> Any:
    """Make ``queue`` the current one; return the one that was, for `leave`."""
    previous = _current.get()
    _current.set(queue)
    return previous


def leave(queue: Queue, previous: Any) -> None:
    """Undo `enter`.

    Servers may close a response in another context than the one its view ran in,
    where a token of ``ContextVar.reset`` is refused: so this compares instead.
    """
    if _current.get() is queue:
        _current.set(previous)


enter_call = _current.set
"""Make a queue the current one for the length of one call; returns a token for `leave_call`."""
leave_call = _current.reset
"""Undo `enter_call`, in the same call and so in the same context, whatever was not left in it."""


@contextmanager
def kept() -> Iterator[None]:
    """Have what is current before a block be so again after it, whoever has not left a queue."""
    before = _current.get()
    try:
        yield
    finally:
        _current.set(before)


_finders: list[Callable[[], Any]] = []


def find_with(finder: Callable[[], Any]) -> None:
    """Have ``finder`` asked where no queue is current; it returns one or None."""
    _finders.append(finder)


def found() -> Any:
    """Return the queue that a finder knows for the code that runs here, None if none does."""
    for finder in _finders:
        queue = finder()
        if queue is not None:
            return queue
    return None


def current_queue() -> Any:
    """Return the queue of the response being made.

    Raises:
        NoResponseError: no response is being made here, or nothing opened a queue for it.
    """
    queue = _current.get()
    if queue is None:
        queue = found()
    if queue is None:
        raise NoResponseError(
            "add_task() was called where no response is being made, so nothing would ever release "
            "the task. Inside a request, open its queue: the BackgroundTasks dependency or "
            "init_app(app) in FastAPI, @background_tasks or the middleware in Django, "
            "BackgroundTasks(app) in Flask, BackgroundTasksMiddleware elsewhere. Outside of a "
            "request, bgadapters.enqueue(...) has one task run; for several, use 'with "
            "BackgroundTasks() as tasks: tasks.add_task(...)', in Django bgadapters.django's own, "
            "in Flask background_tasks.queue()."
        )
    return queue


def flush() -> None:
    """Let the tasks that were added so far to the queue of the response being made run now.

    Raises:
        NoResponseError: no response is being made here.
        QueueFullError: as `BackgroundTasks.flush`.
    """
    current_queue().flush()


def add_task(func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
    """Add a task to the queue of the response being made, from anywhere below its view.

    Args:
        func: a function, coroutine function or any other callable.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        NoResponseError: no response is being made here.
        TypeError, QueueClosedError, QueueFullError: as `BackgroundTasks.add_task`.
    """
    current_queue().add_task(func, *args, **kwargs)
