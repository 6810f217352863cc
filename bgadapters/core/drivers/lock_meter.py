"""Measures who needs the interpreter's lock, from a thread that asks for it from time to time.

Three clocks tell it, all of Linux. The time for which this thread neither slept nor ran nor waited
for a processor is that for which it waited for the lock. The processor time of another thread tells
whether that has worked. And while this thread holds the lock, what another one burns it burns
without: zlib, hashlib and NumPy do.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import get_ident
from typing import NamedTuple

from bgadapters.core import host

INTERVAL = 0.01  # seconds between two looks
_CONTESTED = 0.6  # of the time after which a thread that computes gives the lock up: a wait
_GLANCE = 20e-6  # seconds, in which a thread that needs no lock is seen to go on
_SCHEDSTAT = "/proc/thread-self/schedstat"
"""Of the thread that has opened it: nanoseconds on a processor, and waiting for one.

https://docs.kernel.org/scheduler/sched-stats.html
"""

NO_CLOCK = 0


def clock_of_this_thread() -> int:
    """Return the clock of the processor time of this thread; ``NO_CLOCK`` where none can be read.

    That is so where threads are greenlets, where there is no such lock, and where the system has
    no such clocks.
    """
    if host.threads_are_greenlets() or not _has_lock():
        return NO_CLOCK
    if not (hasattr(time, "pthread_getcpuclockid") and os.path.exists(_SCHEDSTAT)):
        return NO_CLOCK
    return time.pthread_getcpuclockid(get_ident())


def _has_lock() -> bool:
    is_enabled = getattr(sys, "_is_gil_enabled", None)  # 3.13
    return is_enabled is None or bool(is_enabled())


class Burned(NamedTuple):
    """What a thread has burned.

    Attributes:
        seconds: of processor time, since the thread began.
        is_free: whether it goes on while another thread holds the lock.
    """

    seconds: float
    is_free: bool


class Meter:
    """Asks for the lock, in the thread that has made it, and reads clocks.

    Raises:
        OSError: no file descriptor is left.
    """

    def __init__(self) -> None:
        self._file: int | None = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        self._last = self._accounted(self._file)

    def close(self) -> None:
        """Nothing will be measured any more."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def pause(self) -> bool:
        """Sleep; tell whether this thread has had to wait for the lock since the last time."""
        turn = sys.getswitchinterval()
        time.sleep(INTERVAL)
        if self._file is None:  # a fork has closed it
            return False
        (since, before), self._last = self._last, self._accounted(self._file)
        now, accounted = self._last
        waited = (now - since) - INTERVAL - (accounted - before)
        return waited >= _CONTESTED * min(turn, sys.getswitchinterval())

    def _accounted(self, file: int) -> tuple[float, float]:
        """The time, and the seconds for which this thread ran or waited for a processor."""
        now = time.monotonic()  # before the file is read, for which the lock is given up
        ran, waited, _ = os.pread(file, 100, 0).split()
        return now, (int(ran) + int(waited)) / 1e9

    def others(self) -> float:
        """Seconds that all threads of the process but this one have burned."""
        return time.process_time() - time.thread_time()

    def read(self, clocks: Iterable[int]) -> dict[int, Burned]:
        """Read the clocks of threads. Nothing here gives up the lock."""
        begun = time.perf_counter()
        first = {clock: (time.perf_counter(), _read(clock)) for clock in clocks}
        while time.perf_counter() - begun < _GLANCE:
            pass
        found = {}
        for clock, (since, before) in first.items():
            seconds = _read(clock)
            passed = time.perf_counter() - since
            found[clock] = Burned(seconds, seconds - before > passed / 2)
        return found


def _read(clock: int) -> float:
    with suppress(OSError):  # the thread has ended
        return time.clock_gettime(clock)
    return 0.0
