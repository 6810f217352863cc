"""Finds out which functions hold the interpreter's lock (GIL) while they run, and how much of it.

A thread that computes in Python keeps the lock for 5 ms at a time (`sys.getswitchinterval`), and
whoever needs it waits as long: the server, with each of its steps. That CPU time is used tells
little, for zlib, hashlib, Pillow and NumPy let go of the lock while they compute. So one thread
looks for itself, while several workers are busy: it sleeps for a moment, and what it needs longer
to come back than the operating system has made it wait, it has waited for the lock.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from bgadapters.core import host
from bgadapters.core.model.task import Task

WINDOW = 0.01  # seconds between two looks
_CONTESTED = 0.003  # seconds of waiting for the lock: it was not given up, but taken away
_BURNS = 0.1  # of a window: what has used less of the CPU was not at work in it
_ENOUGH = 0.02  # seconds of CPU time after which a function is judged
_MEMORY = 1.0  # seconds of CPU time after which what was seen counts half
_LINGER = 50  # windows without two busy workers after which nobody looks any more
_MOST = 256  # functions that are remembered

Key = Any
"""What a function is known by: its code, or the type of a callable object."""


class Window(NamedTuple):
    """What was seen between two looks.

    Attributes:
        seconds: how long it was.
        waited: seconds for which the lock was waited for at its end.
        used: the seconds of CPU time that each function has used.
        present: how many threads were running each function.
        others: seconds of CPU time that other threads of the process have used.
    """

    seconds: float
    waited: float
    used: Mapping[Key, float]
    present: Mapping[Key, int]
    others: float


class _Record:
    """What was seen of one function, in seconds."""

    __slots__ = ("cpu", "free", "held", "wall")

    def __init__(self) -> None:
        self.held = 0.0  # of CPU time in windows in which the lock was held
        self.free = 0.0  # of CPU time in others
        self.cpu = 0.0  # of CPU time while it was the only holder
        self.wall = 0.0  # for which it ran as that

    def fade(self) -> None:
        """Let what was seen long ago count less."""
        if self.held + self.free > _MEMORY:
            self.held, self.free = self.held / 2, self.free / 2
        if self.wall > 2 * _MEMORY:
            self.cpu, self.wall = self.cpu / 2, self.wall / 2


class Evidence:
    """What all that was seen says about each function.

    Attributes:
        holders: the functions that hold the lock while they run.
    """

    def __init__(self) -> None:
        self.holders: set[Key] = set()
        self._records: dict[Key, _Record] = {}

    def add(self, window: Window) -> None:
        """Take a window into account.

        Of several functions at work in one, those are to blame that were not seen to leave the
        lock alone; if there is none, all of them. Then they are run one at a time, and the next
        windows tell.
        """
        least = _BURNS * window.seconds
        burners = [key for key, used in window.used.items() if used >= least]
        is_contested = window.waited >= _CONTESTED
        if not is_contested:
            for key in burners:
                self._record(key).free += window.used[key]
        elif window.others < window.seconds / 2:  # else a view may have held it
            for key in [each for each in burners if not self.is_cleared(each)] or burners:
                self._record(key).held += window.used[key]
        present = [key for key in window.present if key in self.holders]
        if len(present) == 1 and window.present[present[0]] == 1:  # it has waited for no other
            record = self._record(present[0])
            record.cpu += window.used.get(present[0], 0.0)
            record.wall += window.seconds
        for key in burners:
            self._judge(key)

    def share(self, key: Key) -> float:
        """How much of the lock one call of a function needs while it runs, from 0.0 to 1.0."""
        if key not in self.holders:
            return 0.0
        record = self._record(key)
        if record.wall < _ENOUGH:
            return 1.0
        return min(1.0, record.cpu / record.wall)

    def is_cleared(self, key: Key) -> bool:
        """Whether a function was seen to let go of the lock while it computes."""
        record = self._records.get(key)
        return record is not None and record.free >= _ENOUGH and record.free > record.held

    def _record(self, key: Key) -> _Record:
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= _MOST:
                oldest = next(iter(self._records))
                del self._records[oldest]
                self.holders.discard(oldest)
            record = self._records[key] = _Record()
        return record

    def _judge(self, key: Key) -> None:
        record = self._record(key)
        record.fade()
        if record.held >= _ENOUGH and record.held > 2 * record.free:
            self.holders.add(key)
        elif record.free > record.held:
            self.holders.discard(key)


def key_of(task: Task) -> Key:
    """Return what the function of a task is known by."""
    func = task.unwrap().func
    while isinstance(func, partial):
        func = func.func
    return getattr(getattr(func, "__func__", func), "__code__", None) or type(func)


class GilWatch:
    """Looks at the lock while several workers are busy, in a thread of its own.

    Attributes:
        is_on: whether it looks, and wants to know what runs.
        evidence: what it has found.
    """

    def __init__(self) -> None:
        self.evidence = Evidence()
        self._is_possible: bool | None = None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Look at nothing: at first, and in a forked child."""
        self.is_on = False
        self._lock = threading.RLock()
        self._running: dict[int, Key] = {}  # by the clock of the thread that runs it
        self._last: dict[int, Key] = {}  # the same, of what has ended as well

    def begin(self) -> None:
        """Look from now on, as long as two workers are busy."""
        if self._is_possible is None:
            self._is_possible = _can_look()
        with self._lock:
            if self.is_on or not self._is_possible:
                return
            self.is_on = True
        try:
            host.start_thread(
                threading.Thread(target=self._look_on, name="bgadapters-gil", daemon=True)
            )
        except RuntimeError:  # no more threads
            self.is_on = False

    def note(self, task: Task) -> None:
        """A task is about to run in this thread. To be called if `is_on`."""
        clock = time.pthread_getcpuclockid(threading.get_ident())
        self._running[clock] = self._last[clock] = key_of(task)

    def note_end(self) -> None:
        """This thread runs none any more. To be called if `is_on`."""
        self._running.pop(time.pthread_getcpuclockid(threading.get_ident()), None)

    def _look_on(self) -> None:
        running = self._running
        idle = 0
        with _RunDelay() as run_delay:
            while idle < _LINGER and self._running is running:
                idle = 0 if len(running) > 1 else idle + 1
                self.evidence.add(self._look(run_delay))
        if self._running is running:
            self.is_on = False
            running.clear()
            self._last.clear()

    def _look(self, run_delay: Callable[[], float]) -> Window:
        before = dict(self._running)
        clocks = {clock: _cpu_time(clock) for clock in list(self._last)}
        process = time.process_time()
        delay, began = run_delay(), time.perf_counter()
        time.sleep(WINDOW)
        seconds = time.perf_counter() - began
        waited = seconds - WINDOW - (run_delay() - delay)
        process = time.process_time() - process
        used: defaultdict[Key, float] = defaultdict(float)
        tasks = 0.0
        for clock, then in clocks.items():
            cpu = _cpu_time(clock) - then
            tasks += cpu
            # What it has just been running, too: it may have held the lock until its end.
            keys = {before.get(clock), self._last.get(clock)} - {None}
            for key in keys:
                used[key] += cpu / len(keys)
        return Window(seconds, waited, used, Counter(before.values()), process - tasks)


def _cpu_time(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:  # its thread has ended
        return 0.0


class _RunDelay:
    """Tells how long this thread has waited for a processor: in ``/proc``, where Linux has it."""

    def __enter__(self) -> Callable[[], float]:
        self._file = os.open(_SCHEDSTAT, os.O_RDONLY)
        return self._read

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _read(self) -> float:
        return int(os.pread(self._file, 64, 0).split()[1]) / 1e9


_SCHEDSTAT = "/proc/thread-self/schedstat"


def _can_look() -> bool:
    """Whether there is such a lock, and a way to tell waiting for it from waiting for a processor.

    Without the second a machine that is merely busy would look like a lock that is held.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return has_lock and not host.threads_are_greenlets() and os.access(_SCHEDSTAT, os.R_OK)
