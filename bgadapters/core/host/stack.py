"""Who has called."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

from bgadapters.core.host import gevent

_COLLECTS_ANYWHERE = sys.version_info < (3, 12)
_frames = sys._current_frames  # noqa: SLF001  documented


def callers() -> Iterator[FrameType]:
    """Return the frames below the one that asks, from the innermost."""
    from inspect import currentframe  # which is slow to import

    frame = currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def watched_thread() -> Callable[[], FrameType | None]:
    """Return what tells, in another thread, where the thread that asks is at work then.

    Where threads are greenlets it tells of this greenlet.
    """
    greenlet = gevent.current_greenlet()
    if greenlet is not None:
        return lambda: greenlet.gr_frame
    return partial(frame_of_thread, threading.get_ident())


def frame_of_thread(ident: int) -> FrameType | None:
    """Return where a thread is at work now; None if it has ended.

    Before Python 3.12 the garbage collector may begin in the middle of asking for that, which is
    done with a lock of the interpreter held. A `threading.local` that it finds waits for the same
    lock, and so does then the whole process, without end. So it does not begin meanwhile. See
    https://github.com/python/cpython/issues/106883.

    Args:
        ident: that of the thread, as `threading.get_ident` returns it.
    """
    if not (_COLLECTS_ANYWHERE and gc.isenabled()):
        return _frames().get(ident)
    gc.disable()
    try:
        return _frames().get(ident)
    finally:
        gc.enable()


def shown_thread(frame: FrameType | None) -> str:
    """Return the stack of a thread as text, from the call of a task on; "" if there is none."""
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return _shown(reversed(frames))


def shown_coroutine(coroutine: Any) -> str:
    """Return where a coroutine is suspended as text, from the call of a task on."""
    frames: list[FrameType] = []
    while coroutine is not None:
        kind = next((each for each in _SUSPENDED if hasattr(coroutine, each[0])), None)
        if kind is None:  # a future, or something of C
            break
        frame = getattr(coroutine, kind[0])
        if frame is not None:
            frames.append(frame)
        coroutine = getattr(coroutine, kind[1])
    return _shown(iter(frames))


_SUSPENDED = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
"""Of a coroutine, a generator, an async generator: its frame, and what it waits for."""


def _shown(frames: Iterator[FrameType]) -> str:
    from itertools import dropwhile
    from traceback import StackSummary, format_list

    of_the_task = dropwhile(_is_ours, frames)
    lines = format_list(StackSummary.extract((frame, frame.f_lineno) for frame in of_the_task))
    return "".join(lines).rstrip()


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] in {"bgadapters", "threading", "contextlib", "gevent"}
