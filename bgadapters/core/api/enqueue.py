"""One call for code that is used in requests and outside of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

from bgadapters.core.api.current import current_queue
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.model.errors import NoResponseError, QueueClosedError

P = ParamSpec("P")

MakeQueue = Callable[[], BackgroundTasks | None]

_makers: list[MakeQueue] = []  # asked in this order; filled by imports alone
_fallbacks: list[MakeQueue] = []  # asked after them


def make_own_queues(make: MakeQueue, *, is_fallback: bool = False) -> None:
    """Have `enqueue` ask a framework for a queue where no response is being made.

    Args:
        make: returns a queue with the settings and hooks of an application, or None where this
            is not the framework's place.
        is_fallback: whether it knows no more than that its framework is in use in this process,
            so that those that know better are asked first. Default: False.
    """
    (_fallbacks if is_fallback else _makers).append(make)


def enqueue(func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
    """Add a task to the queue of the response being made; elsewhere have it run on its own.

    For code that views use, and commands, shells, signals and fixtures as well. Where no
    response is being made, or it is over already, the task gets a queue of its own, which is
    released at once: in Flask one of the current application, in Django one of its settings,
    which waits for the commit of a transaction around it. Tasks of several calls then run side
    by side.

    Args:
        func: as `bgadapters.add_task`.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Raises:
        TypeError, QueueFullError, NotPortableError: as `BackgroundTasks.add_task`.
    """
    try:
        current_queue().add_task(func, *args, **kwargs)
    except (NoResponseError, QueueClosedError):  # or a thread that its response did not wait for
        queue = _own_queue()
        queue.add_task(func, *args, **kwargs)
        queue.release()


def forget(key: str) -> bool:
    """Discard the task that waits with a key, from anywhere.

    That is one of the application whose response is being made, or else of the one whose queue
    `enqueue` would use.

    Args:
        key: as the option ``key``.

    Returns:
        Whether one waited.

    Raises:
        TypeError: no key.
    """
    try:
        queue: BackgroundTasks = current_queue()
    except NoResponseError:
        queue = _own_queue()
    return queue.forget(key)


def _own_queue() -> BackgroundTasks:
    for make in (*_makers, *_fallbacks):
        queue = make()
        if queue is not None:
            return queue
    return BackgroundTasks()
