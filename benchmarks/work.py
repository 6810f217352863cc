"""The work that tasks do, and the count of it: a benchmark whose tasks did not run fails."""

from __future__ import annotations

import itertools
import threading
import time

PATIENCE = 60.0  # seconds until tasks count as lost


class LostTasksError(Exception):
    """Not as many tasks ran as were added."""


class Tally:
    """Counts what has run, as cheaply as can be: ``next`` of a counter is atomic."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._target = 0
        self._reached = threading.Event()

    def expect(self, tasks: int) -> None:
        """Begin to count to ``tasks``."""
        self._numbers = itertools.count(1)
        self._target = tasks
        self._reached.clear()

    def note(self) -> None:
        """One has run."""
        if next(self._numbers) == self._target:
            self._reached.set()

    def wait(self) -> None:
        """Wait in this thread until all have run, and none twice."""
        self._reached.wait(PATIENCE)
        self.check()

    def check(self) -> None:
        """All have run, and none twice.

        Raises:
            LostTasksError: they have not.
        """
        ran = next(self._numbers) - 1
        self._numbers = itertools.count(ran + 1)
        if ran != self._target:
            raise LostTasksError(f"{ran} tasks ran of {self._target}")


TALLY = Tally()


def noop() -> None:
    """Do nothing but count."""
    TALLY.note()


async def anoop() -> None:
    """Do nothing but count."""
    TALLY.note()


WORK_SECONDS = 0.05

_finished = itertools.count()
_lock = threading.Lock()
_taken = 0


def finished() -> int:
    """The tasks of a served application that have finished in this process."""
    global _taken
    with _lock:
        _taken += 1
        return next(_finished) - _taken + 1


def nothing() -> None:
    """A task of a served application that does nothing."""
    next(_finished)


async def anothing() -> None:
    """Do as `nothing`, on the event loop."""
    next(_finished)


def sleep() -> None:
    """A task that waits for something else."""
    time.sleep(WORK_SECONDS)
    next(_finished)


def compute() -> None:
    """A task that keeps the interpreter busy."""
    end = time.thread_time() + WORK_SECONDS
    while time.thread_time() < end:
        pass
    next(_finished)
