"""How the tasks of one application get to finish: one sequence, and three ways to wait in it."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from contextvars import Context
from typing import Any

from bgadapters.core.app.later import Later, waits
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.pool import Pool
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.events import names

_SILENCE = 1.0  # seconds that the end of a process may take without a word
_CANCEL_GRACE = 1.0  # seconds that cancelled async tasks get for their clean-up
_POLL_INTERVAL = 1.0  # seconds after which a drain looks for loops that were closed meanwhile

Sequence = Generator[float, bool | None, list[str]]
"""Yields seconds to wait for the last task; is sent whether it has ended; returns names."""


class Drainer:
    """Waits for the tasks of one application, and gives up on what takes too long.

    Args:
        execution: the application.
        later: what waits for its time.
        pool: its workers, which clean up when nothing is left.
    """

    def __init__(self, execution: Execution, later: Later, pool: Pool) -> None:
        self._execution = execution
        self._in_flight = execution.in_flight
        self._later = later
        self._pool = pool
        self._timeout = 0.0  # of the latest drain
        # What was given up while a drain was under way, of which several may be: the first that
        # ends tells of it. Changed in single steps.
        self._late: deque[str] = deque()
        later.on_late = self._give_up_late

    def drain(self, timeout: float) -> list[str]:
        """Wait in this thread; return the names of the tasks that were abandoned."""
        abandoned = _run(self._sequence(timeout), self._wait)
        if not abandoned:
            self._pool.idle(_CANCEL_GRACE)
        return abandoned

    def drain_at_exit(self, timeout: float, is_quiet: bool = False) -> list[str]:
        """Do as `drain`, and run the loops that have stopped.

        Unless ``is_quiet``, a WARNING says after a second what is waited for.
        """
        abandoned = _run(self._sequence(timeout, not is_quiet), self._wait_at_exit)
        return abandoned + self.give_up(timeout)  # what waits for this thread, which ends

    async def adrain(self, timeout: float) -> list[str]:
        """Do as `drain`, without blocking the event loop."""
        sequence = self._sequence(timeout)
        is_idle: bool | None = None
        while True:
            try:
                seconds = sequence.send(is_idle)
            except StopIteration as stop:
                abandoned: list[str] = stop.value
                return abandoned
            is_idle = await self._await_idle(seconds)

    def give_up(self, timeout: float, batches: Iterable[Batch] | None = None) -> list[str]:
        """Abandon the tasks of all batches or of these, ``timeout`` seconds having been too few."""
        batches = self._in_flight.live() if batches is None else batches
        left = [(batch, task) for batch in batches for task in self._abandon(batch)]
        if left:
            self._execution.events.abandoned(left, timeout)
        return [task.name for _, task in left]

    def give_up_loop(self, loop: Any, timeout: float) -> None:
        """Abandon the batches of a loop that is about to be closed; the process may well go on."""
        live = self._in_flight.live()
        bound = [batch for batch in live if batch.origin_loop is loop and not waits(batch)]
        self.give_up(timeout, bound)
        self._in_flight.forget_abandoned()

    def _sequence(self, timeout: float, says_what_is_left: bool = False) -> Sequence:
        self._timeout = timeout
        with self._later.draining(time.monotonic() + timeout) as not_due:
            for batch in not_due:
                self._give_up_late(batch)
            left = yield from self._wait_then_give_up(timeout, says_what_is_left)
        return [*self._take_late(), *left]

    def _take_late(self) -> Iterator[str]:
        with suppress(IndexError):
            while True:
                yield self._late.popleft()

    def _wait_then_give_up(self, timeout: float, says_what_is_left: bool) -> Sequence:
        silence = min(timeout, _SILENCE) if says_what_is_left else timeout
        if (yield silence):
            return []
        if timeout > silence:
            self._say_what_is_left(timeout - silence)
            if (yield timeout - silence):
                return []
        abandoned = self.give_up(timeout)
        yield _CANCEL_GRACE
        self._in_flight.forget_abandoned()
        return abandoned

    def _give_up_late(self, batch: Batch) -> None:
        """Give up a batch whose time will not come before the drain ends."""
        self._late.extend(self.give_up(self._timeout, [batch]))
        self._execution.finish(batch)

    def _say_what_is_left(self, seconds: float) -> None:
        left = [task for batch in self._in_flight.live() for task in batch.left()]
        Context().run(  # it may name tasks of several requests
            guard.log,
            logging.WARNING,
            "The process ends when %d background task(s) have finished, or in %.3g s; "
            "Ctrl-C, twice, ends it at once: %s",
            len(left),
            seconds,
            names(left),
        )

    def _abandon(self, batch: Batch) -> list[Any]:
        left = self._execution.abandon(batch)
        carrier = batch.carrier
        if carrier is not None:
            carrier.abandon()
        return left

    def _wait(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            self._rescue()
            left = max(0.0, deadline - time.monotonic())
            if self._in_flight.wait_idle(min(left, _POLL_INTERVAL)):
                return True
            if left <= _POLL_INTERVAL:
                return False

    def _wait_at_exit(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if any(batch.origin_loop is not None for batch in self._in_flight.live()):
            from bgadapters.core.drivers.origin_loop import run_stopped

            run_stopped(self._in_flight, timeout)
        return self._wait(max(0.0, deadline - time.monotonic()))

    async def _await_idle(self, timeout: float) -> bool:
        from bgadapters.core.drivers.waiting import wait_until, within

        deadline = time.monotonic() + timeout
        while True:
            self._rescue()
            left = max(0.0, deadline - time.monotonic())
            if await within(min(left, _POLL_INTERVAL), wait_until(self._in_flight.is_idle)):
                return True
            if left <= _POLL_INTERVAL:
                return False

    def _rescue(self) -> None:
        if any(batch.carrier is not None for batch in self._in_flight.live()):
            from bgadapters.core.drivers.origin_loop import rescue_closed

            rescue_closed(self._in_flight)


def _run(sequence: Sequence, wait: Callable[[float], bool]) -> list[str]:
    is_idle: bool | None = None
    while True:
        try:
            seconds = sequence.send(is_idle)
        except StopIteration as stop:
            abandoned: list[str] = stop.value
            return abandoned
        is_idle = wait(seconds)
