"""Runs batches on event loops, which may end at any moment.

Imported when the first async task or ASGI response comes, since asyncio is most of what
importing this package would otherwise cost.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakSet, ref

from bgadapters.core.drivers.async_runner import begin_async_tasks, new_task, run_async_tasks
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.in_flight import InFlight
from bgadapters.core.drivers.loop_watch import LoopWatch
from bgadapters.core.drivers.waiting import wait_until, within
from bgadapters.core.model.batch import Batch

Run = Callable[[Batch, Execution], Coroutine[Any, Any, None]]

_STOPS = 3  # how often a loop may be stopped again

_closing: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # no batch may be added to these
_is_any_closing = False  # whether any was ever in it, which costs less to ask


class Outlasting(asyncio.Task[None]):
    """An asyncio task that a loop which is about to be closed waits for.

    ``asyncio.run`` and servers cancel what is left of a loop that they have stopped, and run it
    again until all of that has ended. There a batch gets its drain timeout first.
    """

    __slots__ = ("carrier",)  # so that it needs no dict

    carrier: LoopCarrier  # from its first wait on

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, on a loop that runs; on one that has stopped, only after the drain timeout."""
        loop, carrier = self.get_loop(), self._carrier()
        if carrier is None or loop.is_running() or loop.is_closed():
            return self.cancel_now(msg)
        carrier.put_off(loop)
        return False

    def cancel_now(self, msg: Any = None) -> bool:
        """Cancel as any asyncio task."""
        carrier = self._carrier()
        if carrier is not None:  # pragma: no branch  as it always is before Python 3.12
            carrier.look_after(self)
        return super().cancel(msg)

    def _carrier(self) -> LoopCarrier | None:
        return getattr(self, "carrier", None)


class _Driving(Outlasting):
    """The asyncio task of a whole batch. On a loop that runs it cannot be cancelled.

    Its tasks stay on their loop, whatever somebody does who cancels all asyncio tasks.
    """

    __slots__ = ()

    def cancel_now(self, msg: Any = None) -> bool:  # noqa: ARG002  as the base
        """Refuse."""
        return False


class LoopDriver:
    """Runs batches on event loops: each on the loop that it belongs to.

    Args:
        execution: the application.
        give_up: called with an event loop that is about to be closed, to abandon its batches.
        drain_timeout: seconds that such a loop waits for them.
        watch: notices when a task blocks such a loop. Default: nothing does.
    """

    def __init__(
        self,
        execution: Execution,
        give_up: Callable[[Any], None],
        drain_timeout: float,
        watch: LoopWatch | None = None,
    ) -> None:
        self.execution = execution
        self.give_up = give_up
        self.drain_timeout = drain_timeout
        self.watch = watch
        self._latest: asyncio.AbstractEventLoop | None = None
        # Those in use, as far as they were not seen to be closed. Changed in single steps.
        self._open: dict[ref[asyncio.AbstractEventLoop], None] = {}

    def begin(self, batch: Batch, loop: asyncio.AbstractEventLoop, at_once: bool) -> None:
        """Start a batch whose async tasks belong to the loop this is called in.

        Where the caller is about to wait for them, ``at_once``, they may begin before this
        returns: a batch whose tasks wait for nothing then costs no turn of the loop.
        """
        batch.origin_loop = loop
        if loop is not self._latest or (self.watch is not None and loop not in self.watch.loops):
            self._note(loop)
        if batch.needs_loop():
            self.run_here(batch, loop, at_once)
        else:
            self.execution.to_threads(batch)

    def start_on(self, loop: asyncio.AbstractEventLoop, batch: Batch) -> bool:
        """Have a loop take the batch, from any thread; False if it was closed."""
        carrier = LoopCarrier(self, batch)
        carrier.turn = {"turn": batch}
        self._note(loop)
        hand_over = _HandOver(carrier)
        try:
            loop.call_soon_threadsafe(hand_over)
        except RuntimeError:
            return not carrier.take_turn()  # one that was rescued goes on already
        return True

    def _note(self, loop: asyncio.AbstractEventLoop) -> None:
        """Where another loop is in use than before, that one may have been closed with batches.

        Several loops may be in use by turns, and there may be many batches: none is looked at while
        all loops are open.
        """
        if loop is not self._latest:
            self._latest = loop
            if self._has_closed():
                rescue_closed(self.execution.in_flight)
            self._open[ref(loop)] = None
        if self.watch is not None and loop not in self.watch.loops:
            self.watch.begin(loop)

    def _has_closed(self) -> bool:
        """Whether a loop was closed since this was asked the last time."""
        closed = [each for each in list(self._open) if (loop := each()) is None or loop.is_closed()]
        for each in closed:
            self._open.pop(each, None)
        return bool(closed)

    def run_here(
        self,
        batch: Batch,
        loop: asyncio.AbstractEventLoop,
        at_once: bool,
        carrier: LoopCarrier | None = None,
    ) -> None:
        """Run a batch on the running loop, unless that is about to be closed.

        Args:
            batch: the batch.
            loop: that which runs here.
            at_once: whether its first steps are taken before this returns, where Python can.
            carrier: what has the batch. Default: a new one, where one is needed.
        """
        if _is_any_closing and loop in _closing:
            (carrier or LoopCarrier(self, batch)).leave()
            return
        begun = begin_async_tasks(batch, self.execution, None, Outlasting, loop, at_once)
        if begun is True or begun is False:
            self.end(batch, is_ours=begun)
        else:
            (carrier or LoopCarrier(self, batch)).go_on(begun, at_once)

    def end(self, batch: Batch, is_ours: bool) -> None:
        """No async task is to be run now. Have the batch go on, if it has not been left to wait."""
        if is_ours and not self.execution.finish(batch):
            self.execution.to_threads(batch)

    def drive(self, batch: Batch, run: Run) -> None:
        """Run a batch on the running loop by ``run``, a coroutine function."""
        batch.origin_loop = loop = asyncio.get_running_loop()
        self._open[ref(loop)] = None
        LoopCarrier(self, batch).drive(run)


class _HandOver:
    """Begins a batch on the loop that it is handed to.

    A loop that is closed drops what it has not called yet. What is dropped knows by that, and has
    the batch go on without the loop.
    """

    __slots__ = ("_carrier",)

    def __init__(self, carrier: LoopCarrier) -> None:
        self._carrier = carrier

    def __call__(self) -> None:
        self._carrier.take_over()

    def __del__(self) -> None:
        self._carrier.take_back()


class LoopCarrier:
    """Carries one batch on one loop, from the hand-over to the last of the async tasks there.

    An asyncio task of the batch awaits those of its tasks. As long as there is only one that waits,
    nothing follows and nobody cancels it, there is none: that one ends the batch in its last step.
    """

    turn: dict[str, Batch] | None = None
    """Emptied by whoever begins, the loop or a rescuer; None where there is no hand-over."""
    _task: _Driving | None = None
    _user_task: Outlasting | None = None
    _is_put_off = False
    _has_batch = False
    """Whether it has begun. Whoever takes the batch from a loop that was closed deletes it."""

    def __init__(self, driver: LoopDriver, batch: Batch) -> None:
        self._driver = driver
        self._batch = batch
        batch.carrier = self

    def take_over(self) -> None:
        """Begin on the loop that the batch was handed to, unless it was rescued meanwhile."""
        if self.take_turn():
            self._driver.run_here(self._batch, asyncio.get_running_loop(), False, self)

    def take_back(self) -> bool:
        """Have the batch go on without the loop, unless it has begun there; tell whether so."""
        has_turn = self.take_turn()
        if has_turn:
            self.leave()
        return has_turn

    def go_on(self, begun: Any, at_once: bool) -> None:
        """Carry the batch on from an asyncio task that has begun, on the loop this is called in.

        Args:
            begun: the asyncio task.
            at_once: as for `LoopDriver.run_here`.
        """
        self._on_suspended(begun)
        self._has_batch = True
        if self._batch.waiting:
            self._carry(self._run(begun), at_once)

    def drive(self, run: Run) -> None:
        """Run the batch by ``run``, on the loop this is called in, unless that is closing."""
        if asyncio.get_running_loop() in _closing:
            self.leave()
        else:
            self._has_batch = True
            self._carry(self._run_by(run), True)

    def look_after(self, task: asyncio.Task[None]) -> None:
        """An asyncio task is to be cancelled, maybe before its first step: await it."""
        if self._task is None and not task.done() and task.get_loop().is_running():
            self._carry(self._run(self._user_task), False)

    def task_has_ended(self) -> None:
        """As `Carrier.task_has_ended`: where nothing awaits it, see to what comes next."""
        batch = self._batch
        if self._task is not None or not self._has_batch:
            return
        if not batch.waiting:
            Context().run(self._driver.end, batch, is_ours=True)  # for the end is not the task's
        elif self._is_put_off:
            Context().run(self.leave)
        else:
            self._carry(self._run(None), False)

    def _carry(self, steps: Coroutine[Any, Any, None], at_once: bool) -> None:
        task = new_task(_Driving, steps, asyncio.get_running_loop(), None, at_once)
        if not task.done():  # pragma: no branch  as it always is before Python 3.12
            task.carrier = self
            self._task = task

    async def _run(self, begun: Outlasting | None) -> None:
        driver, batch = self._driver, self._batch
        is_ours = await run_async_tasks(
            batch,
            driver.execution,
            task_type=Outlasting,
            on_suspended=self._on_suspended,
            begun=begun,
        )
        driver.end(batch, is_ours)

    async def _run_by(self, run: Run) -> None:
        driver, batch = self._driver, self._batch
        await run(batch, driver.execution)
        driver.end(batch, is_ours=True)

    def _on_suspended(self, task: Outlasting) -> None:
        task.carrier = self
        self._user_task = task

    def abandon(self) -> None:
        """Cancel the task that runs, from any thread."""
        task = self._user_task
        if task is not None and not task.done():
            with suppress(RuntimeError):  # its loop is closed, so it does not run any more
                task.get_loop().call_soon_threadsafe(task.cancel_now)

    def put_off(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop has stopped and somebody cancels its tasks: abandon them after a time."""
        if not self._is_put_off:
            self._is_put_off = True
            global _is_any_closing
            _is_any_closing = True
            _closing.add(loop)
            loop.call_later(self._driver.drain_timeout, self._give_up, loop, context=Context())

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        if any(not each.done() for each in self._tasks()):
            self._driver.give_up(loop)

    def _tasks(self) -> list[Outlasting]:
        return [each for each in (self._user_task, self._task) if each is not None]

    def rescue(self) -> None:
        """Take the batch from a loop that was closed and will never take a step of it again.

        Several threads may find that at one time: two that took it would run it side by side.
        """
        if self.take_back():
            return
        tasks = self._tasks()
        # Another one is at it, or a worker has it and will see.
        if not tasks or tasks[-1].done() or not vars(self).pop("_has_batch", False):
            return
        for each in tasks:
            coroutine: Any = each.get_coro()
            with suppress(BaseException):
                coroutine.close()
        self._batch.put_back_untouched()
        self.leave()

    def leave(self) -> None:
        """The loop has ended: the batch goes on without it."""
        self._batch.origin_loop = self._batch.carrier = None
        if not self._driver.execution.finish(self._batch):
            self._driver.execution.to_threads(self._batch)

    def take_turn(self) -> bool:
        """Whether nobody has begun what was handed over: whoever asks does so now."""
        return self.turn is not None and self.turn.pop("turn", None) is not None


def rescue_closed(in_flight: InFlight) -> None:
    """Take the batches of loops that were closed: nobody else will run them."""
    for batch in in_flight.live():
        loop, carrier = batch.origin_loop, batch.carrier
        if carrier is not None and loop is not None and loop.is_closed():
            carrier.rescue()


def run_stopped(in_flight: InFlight, timeout: float) -> None:
    """At exit: run the loops that have stopped before their batches had finished, until they have.

    Batches of a loop that is closed go on without it.
    """
    deadline = time.monotonic() + timeout
    rescue_closed(in_flight)
    loops = {batch.origin_loop for batch in in_flight.live() if batch.origin_loop is not None}
    for loop in loops:
        for _ in range(_STOPS):
            if loop.is_closed() or loop.is_running():
                break
            left = max(0.0, deadline - time.monotonic())
            waiting = loop.create_task(
                within(left, wait_until(partial(in_flight.is_idle, loop=loop)))
            )
            with suppress(RuntimeError):  # a stop that was pending has stopped it again
                loop.run_until_complete(waiting)
                break
