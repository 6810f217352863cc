"""What becomes of the queue of a response that nobody has closed, and nobody can close any more."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from weakref import WeakSet

from bgadapters.core import host
from bgadapters.core.api.held import release_response
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import guard
from bgadapters.core.model.errors import BackgroundTasksError
from bgadapters.core.model.events import names
from bgadapters.core.model.task import Task

_CORE = "bgadapters.core."

_told: WeakSet[Runtime] = WeakSet()
"""The applications of which it was said that somebody does not close their responses."""


class ResponseNotClosed(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """A response was dropped, and neither read nor closed."""


def settle_unclosed(
    queue: BackgroundTasks, is_begun: bool, response: str, dropped_in: FrameType | None
) -> None:
    """A response was dropped without being closed: to be called by its finalizer.

    What was begun counts as a response whose client has left: its tasks run. What was not begun
    was never sent: its tasks are discarded. So are all where the interpreter is ending.

    Args:
        queue: that of the response.
        is_begun: whether anything of the response was read.
        response: what to call it in the log.
        dropped_in: where the last reference to it has gone.
    """
    waiting = list(queue.batch.waiting)
    if sys.is_finalizing():  # nothing can run any more
        queue.batch.remove()
        if waiting:
            why = f"{response} was not closed until the very end"
            queue.runtime.events.discarded(queue.batch, waiting, why)
        return
    if is_begun:
        if waiting:
            _tell(queue, waiting, response, dropped_in)
        _call_safely(partial(release_response, queue), dropped_in)
        return
    reason = ResponseNotClosed(f"{response} was dropped, and neither read nor closed")
    _call_safely(partial(queue.close, reason), dropped_in)
    if waiting:
        message = f"{len(waiting)} background task(s) never ran ({names(waiting)}): {reason}"
        warnings.warn(message, ResourceWarning, stacklevel=3)


def _tell(
    queue: BackgroundTasks, waiting: list[Task], response: str, dropped_in: FrameType | None
) -> None:
    if queue.runtime in _told:
        return
    _told.add(queue.runtime)
    waiting[0].context.copy().run(
        guard.log,
        logging.WARNING,
        "%s was dropped without a call of its close(), which PEP 3333 asks of every server and "
        "client (in %s). Its %d background task(s) run all the same: %s. Where a process is frozen "
        "after each response, set hold_response=True. This is said once",
        response,
        None if dropped_in is None else _module(dropped_in),
        len(waiting),
        names(waiting),
    )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _call_safely(call: Callable[[], None], frame: FrameType | None) -> None:
    """Call it here, or in a thread where this one may hold a lock of the core.

    The collector may be at work in the middle of anything.
    """
    while frame is not None:
        if _module(frame).startswith(_CORE):
            thread = threading.Thread(target=call, name="bgadapters-unclosed", daemon=True)
            with suppress(RuntimeError):  # no more threads: then its queue is lost, which says so
                host.start_thread(thread)
            return
        frame = frame.f_back
    call()
