"""Notices that an async task does not let its event loop go on.

Such a task blocks everything on that loop, under ASGI the whole server. A loop cannot tell so
itself, so a thread sends it a beat from time to time while there is anything to watch.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from types import FrameType

from bgadapters.core import host
from bgadapters.core.drivers.async_runner import task_that_runs_in
from bgadapters.core.drivers.timer import Timer
from bgadapters.core.model.task import Task

_LOOPS = 100  # that are watched at one time, at most


class LoopWatch:
    """Watches the loops on which async tasks run, as long as any do.

    Args:
        seconds: how long a loop may not go on.
        tell: called with the task that holds a loop and its stack, once for each time, in a
            thread of its own.
        has_tasks: tells whether any task waits or runs.
    """

    def __init__(
        self, seconds: float, tell: Callable[[Task, str], None], has_tasks: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._tell = tell
        self._has_tasks = has_tasks
        self.loops: dict[asyncio.AbstractEventLoop, _Beat] = {}  # those that are watched
        self._timer: Timer[_Beat] = Timer(_LOOPS, self._look)

    def reset_after_fork(self) -> None:
        """Watch nothing: a forked child has none of its parent's loops."""
        self.loops = {}
        self._timer.reset_after_fork()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop from now on. One whose threads are greenlets blocks the watch as well."""
        if host.threads_are_greenlets() or self._timer.is_full:
            return
        beat = self.loops[loop] = _Beat(loop)
        self._send(beat)

    def _send(self, beat: _Beat) -> None:
        with suppress(RuntimeError):  # the loop was closed
            beat.send()
        self._look_later(beat)

    def _look_later(self, beat: _Beat) -> None:
        self._timer.add(beat, time.monotonic() + self._seconds)

    def _look(self, beat: _Beat) -> None:
        if beat.has_arrived:
            self._look_at_one_that_goes_on(beat)
        elif not beat.loop.is_running():  # it has stopped, or was closed
            self.loops.pop(beat.loop, None)
        else:
            if not beat.is_told:
                self._look_at_one_that_is_held(beat)
            self._look_later(beat)

    def _look_at_one_that_goes_on(self, beat: _Beat) -> None:
        self.loops.pop(beat.loop, None)  # first: then a task that comes now has it watched again
        if self._has_tasks() and self.loops.setdefault(beat.loop, beat) is beat:
            self._send(beat)

    def _look_at_one_that_is_held(self, beat: _Beat) -> None:
        frame = host.frame_of_thread(beat.thread or 0)
        found = None if frame is None else task_that_runs_in(frame)
        if found is not None:
            beat.is_told = True
            self._tell(found[0], _stack(found[1]))


class _Beat:
    """What a loop is sent, to see whether it goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread: int | None = None  # of the loop, once that is known
        self.has_arrived = False
        self.is_told = False  # whether it was told that this one does not arrive
        with suppress(RuntimeError):  # no loop runs here
            if asyncio.get_running_loop() is loop:
                self.thread = threading.get_ident()

    def send(self) -> None:
        """Have the loop call, in no request's context.

        Raises:
            RuntimeError: the loop was closed.
        """
        self.has_arrived = self.is_told = False
        loop = self.loop
        is_here = self.thread == threading.get_ident()
        schedule = loop.call_soon if is_here else loop.call_soon_threadsafe
        schedule(self._arrive, context=Context())

    def _arrive(self) -> None:
        self.thread = threading.get_ident()
        self.has_arrived = True


def _stack(frames: list[FrameType]) -> str:
    lines = [(frame, frame.f_lineno) for frame in frames]
    return "".join(traceback.StackSummary.extract(lines).format()).rstrip("\n")
