"""Notices that jobs wait for a worker longer than they should, without polling."""

from __future__ import annotations

import time
from collections.abc import Callable

from bgadapters.core.drivers.pool import Job
from bgadapters.core.drivers.timer import Timer


class StallWatch:
    """Watches one job at a time of those that wait while all workers are busy.

    Such a job stands for those around it: it waits as long as they do. Nothing is watched while
    a worker is free, and no thread is there for it then.

    Args:
        seconds: how long a job may wait.
        tell: called, once for each stall, in a thread of its own.
        look_again: called when the watched job has begun, to have another one watched if any
            wait.
    """

    def __init__(
        self, seconds: float, tell: Callable[[], None], look_again: Callable[[], None]
    ) -> None:
        self._seconds = seconds
        self._tell = tell
        self._look_again = look_again
        self._timer: Timer[_Watched] = Timer(1, self._look)
        self._watched: _Watched | None = None

    def reset_after_fork(self) -> None:
        """Watch nothing: a forked child inherits no job."""
        self._timer.reset_after_fork()
        self._watched = None

    def watch(self, job: Job) -> Job:
        """Return what is to wait in the place of a job: the job itself if one is watched."""
        watched = _Watched(job, self._end)
        # To ask and to set it is one step here, with no call in between: several threads may.
        if self._watched is not None:
            return job
        self._watched = watched
        if self._timer.add(watched, time.monotonic() + self._seconds):
            return watched
        self._watched = None  # no thread can be had
        return job

    def _look(self, watched: _Watched) -> None:
        watched.is_late = True  # before it is asked: it may begin at any moment
        if watched.has_begun:
            self._end(watched)
        else:
            self._tell()

    def _end(self, watched: _Watched) -> None:
        if self._watched is watched:  # else it was ended a moment ago, or is a parent's
            self._watched = None
            self._look_again()


class _Watched:
    """A job that notes when it begins."""

    def __init__(self, job: Job, end: Callable[[_Watched], None]) -> None:
        self._job = job
        self._end = end
        self.has_begun = False
        self.is_late = False

    def __call__(self) -> None:
        self.has_begun = True
        job = self._job
        del self._job  # the timer is not to keep it
        if self.is_late:
            self._end(self)
        job()
