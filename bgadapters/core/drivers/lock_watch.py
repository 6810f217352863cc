"""Watches, as long as several workers are at work, what their tasks burn and who needs the lock.

It measures only. What it has seen is judged in `control.holders`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from bgadapters.core import host
from bgadapters.core.drivers.lock_meter import NO_CLOCK, Burned, Meter, clock_of_this_thread
from bgadapters.core.drivers.switching import switching
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task

BURNS = 0.001
"""Seconds that a thread burns between two looks, or it counts as one that waits."""
_QUIET = 20  # looks after which what was done is undone: the thread ends
_AFTER_A_FAULT = 1.0  # seconds in which it is not started again


class Worker(NamedTuple):
    """A worker thread between two looks.

    Attributes:
        batch: that which it runs.
        task: that which it runs now.
        is_same: whether it ran that one at the look before.
        burned: seconds of processor time since then.
        is_free: whether it burned without the lock.
        waited: seconds since it last burned any, of this task. Time for which others had to wait
            for the lock counts as far as the process burned any: whoever holds the lock may itself
            wait for a processor, and then the turn of those who need the lock does not come.
    """

    batch: Batch
    task: Task
    is_same: bool
    burned: float
    is_free: bool
    waited: float


class Look(NamedTuple):
    """What was seen at one moment.

    Attributes:
        seconds: since the look before.
        is_contested: whether the lock was not to be had at once.
        workers: those at work.
        elsewhere: seconds of processor time that other threads have burned since then.
    """

    seconds: float
    is_contested: bool
    workers: Sequence[Worker]
    elsewhere: float = 0.0

    @property
    def needed(self) -> float:
        """Seconds of processor time that workers have burned with the lock, as far as is known."""
        return sum(worker.burned for worker in self.workers if not worker.is_free)


class Measures(Protocol):
    """What measures, as `Meter` does."""

    def pause(self) -> bool:
        """Sleep; tell whether this thread then had to wait for the lock."""
        ...

    def read(self, clocks: Sequence[int]) -> dict[int, Burned]:
        """Read the clocks of threads."""
        ...

    def others(self) -> float:
        """Seconds that all threads of the process but this one have burned."""
        ...

    def close(self) -> None:
        """Nothing will be measured any more."""
        ...


class LockWatch:
    """Knows which batch is in which worker, and has a thread look while there are several.

    Args:
        judge: called with each look, in that thread; returns whether any function is known to hold
            the lock, and whether any task of one runs or waits for its turn.
        measures: makes what measures. Default: `Meter`.

    Attributes:
        checks: whether batches are to be checked (`Batch.is_checked`), as there are such functions.
    """

    def __init__(
        self,
        judge: Callable[[Look], tuple[bool, bool]],
        measures: Callable[[], Measures] = Meter,
    ) -> None:
        self._judge = judge
        self._measures = measures
        self._meter: Measures | None = None
        self._reset()

    def reset_after_fork(self) -> None:
        """Watch nothing: in a forked child, where the thread is not."""
        self._reset()
        switching.reset_after_fork()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._at_work: dict[int, Batch] = {}  # by the clock of the thread; changed in single steps
        self._has_thread = False  # guarded by _lock
        self._not_before = 0.0
        self.checks = False
        meter, self._meter = self._meter, None
        if meter is not None:
            meter.close()

    def enter(self, batch: Batch) -> int:
        """This worker runs a batch from now on; returns what `leave` is to be given."""
        try:
            clock: int = _here.clock
        except AttributeError:
            clock = _here.clock = clock_of_this_thread()
        at_work = self._at_work
        at_work[clock] = batch
        if self.checks:
            batch.is_checked = True
        if len(at_work) > 1 and not self._has_thread:
            self._start()
        return clock

    def leave(self, clock: int) -> None:
        """This worker runs its batch no longer."""
        self._at_work.pop(clock, None)

    def _start(self) -> None:
        with self._lock:
            if self._has_thread or time.monotonic() < self._not_before or NO_CLOCK in self._at_work:
                return
            self._has_thread = True
        try:
            host.start_thread(
                threading.Thread(target=self._run, name="bgadapters-lock-watch", daemon=True)
            )
        except RuntimeError:  # no more threads
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._has_thread = False
            self._not_before = time.monotonic() + _AFTER_A_FAULT

    def _run(self) -> None:
        try:
            meter = self._meter = self._measures()
        except OSError:  # no file descriptor is left
            self._end()
            return
        try:
            self._watch(meter)
        except BaseException as exc:
            guard.log(logging.ERROR, "Watching the interpreter's lock has failed", exc_info=exc)
            self._end()
        finally:
            self._meter = None
            meter.close()
            switching.restore(self)

    def _watch(self, meter: Measures) -> None:
        at_work, quiet, calm = self._at_work, 0, 0
        seen = _Seen(meter)
        seen.look(False, at_work.copy())  # what is there now is known at the next look
        while True:
            is_contested = meter.pause()
            if self._at_work is not at_work:  # a fork
                return
            look = seen.look(is_contested, at_work.copy())
            self.checks, is_needed = self._judge(look)
            quiet = 0 if is_needed or len(look.workers) > 1 else quiet + 1
            calm = 0 if look.is_contested and look.needed >= BURNS else calm + 1
            if not calm:
                switching.shorten(self)
            elif calm >= _QUIET:
                switching.restore(self)
            del look  # nothing of a task is kept while this thread sleeps
            if quiet >= _QUIET and self._may_end():
                return

    def _may_end(self) -> bool:
        with self._lock:
            self._has_thread = False  # before it is asked who is there: who comes now starts one
            self._has_thread = len(self._at_work) > 1
            return not self._has_thread


class _Run(NamedTuple):
    """A task in a worker, as it was last seen. Nothing of a task is kept for it."""

    batch: int  # its id
    started: float | None  # when the batch has taken the task
    since: float  # when it last burned any, by `_Seen._passed`


class _Seen:
    """What was seen at the look before."""

    def __init__(self, meter: Measures) -> None:
        self._meter = meter
        self._runs: dict[int, _Run] = {}
        self._burned: dict[int, float] = {}
        self._others = meter.others()
        self._last = time.monotonic()
        self._passed = 0.0  # seconds in which those who need the lock could have had it

    def look(self, is_contested: bool, at_work: dict[int, Batch]) -> Look:
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        found = self._burned_since(self._meter.read(list(at_work)))
        others_before, self._others = self._others, self._meter.others()
        known = sum(each.seconds for each in found.values())
        elsewhere = max(0.0, self._others - others_before - known)
        needed = elsewhere + sum(each.seconds for each in found.values() if not each.is_free)
        self._passed += min(seconds, needed) if is_contested else seconds
        return Look(seconds, is_contested, self._workers(found, at_work), elsewhere)

    def _burned_since(self, found: dict[int, Burned]) -> dict[int, Burned]:
        """What each has burned since the look before."""
        before, self._burned = self._burned, {clock: each.seconds for clock, each in found.items()}
        return {
            clock: Burned(each.seconds - before.get(clock, each.seconds), each.is_free)
            for clock, each in found.items()
        }

    def _workers(self, found: dict[int, Burned], at_work: dict[int, Batch]) -> list[Worker]:
        before, self._runs = self._runs, {}
        workers, now = [], self._passed
        for clock, (burned, is_free) in found.items():
            batch = at_work[clock]
            task = batch.running
            if task is None:
                continue
            run = before.get(clock)
            is_same = run is not None and run[:2] == (id(batch), batch.started)
            since = run.since if run is not None and is_same and burned < BURNS else now
            self._runs[clock] = _Run(id(batch), batch.started, since)
            workers.append(Worker(batch, task, is_same, burned, is_free, now - since))
        return workers


_here = threading.local()
