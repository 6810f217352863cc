"""Waiting on an event loop for what happens in other threads, without blocking it."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from bgadapters.core import host
from bgadapters.core.drivers.in_flight import InFlight, Patience
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.batch_state import RUNNING
from bgadapters.core.model.context import task_running_here

POLL_INTERVAL = 1.0  # seconds after which those who wait ask whether the server is ending


async def finished(batch: Batch, on_ending: Callable[[], Awaitable[object]]) -> None:
    """Wait until a released batch has finished. Cancelling the wait cancels no task.

    Args:
        batch: the batch.
        on_ending: awaited instead if the server is told to end and sets itself no deadline.
    """
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    waking = _Waking(waiter)
    if not batch.on_finished(waking):
        return
    poller = _pollers.get(loop) or _pollers.setdefault(loop, _Poller())
    while True:
        poller.waiters.add(waiter)
        if not poller.is_due:
            poller.start(loop)
        try:
            await waiter
        finally:
            poller.waiters.discard(waiter)
        if batch.state is not RUNNING and not batch.is_held:
            return
        # A drain inside a task would wait for that task itself.
        if task_running_here() is None and host.is_ending():
            await on_ending()
            return
        waking.waiter = waiter = loop.create_future()


class _Waking:
    """Wakes one who waits on the loop of this thread, when called from any thread.

    A function would be five objects for Python's garbage collector, and thousands may wait.

    Args:
        waiter: what is awaited there.
    """

    __slots__ = ("_thread", "waiter")

    def __init__(self, waiter: asyncio.Future[None]) -> None:
        self.waiter = waiter
        self._thread = threading.get_ident()

    def __call__(self) -> None:
        waiter = self.waiter
        if threading.get_ident() != self._thread:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                waiter.get_loop().call_soon_threadsafe(_wake, waiter)
        elif not waiter.done():
            waiter.set_result(None)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Poller:
    """Wakes all those who wait on one loop, from time to time.

    One timer for all of them: one for each would be a tenth of the cost of a response with a task.
    """

    def __init__(self) -> None:
        self.waiters: set[asyncio.Future[None]] = set()
        self.is_due = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake those who wait on this loop after the interval.

        In no request's context: the timer would keep it after the request.
        """
        self.is_due = True
        loop.call_later(POLL_INTERVAL, self._poll, context=Context())

    def _poll(self) -> None:
        self.is_due = False
        for waiter in self.waiters:
            _wake(waiter)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Poller] = WeakKeyDictionary()


async def wait_until(ask: Callable[[Callable[[], object]], bool]) -> None:
    """Wait without blocking until ``ask(callback)`` is true; it calls back when to ask again.

    Args:
        ask: asked at first, and after each call of its callback.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def callback() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(changed.set)

    while not ask(callback):
        await changed.wait()
        changed.clear()


async def wait_for_capacity(
    ask: Callable[[Callable[[], object]], bool], in_flight: InFlight
) -> bool:
    """Do as `wait_until` for capacity in a registry, as long as tasks finish.

    Args:
        ask: as for `wait_until`; it gives its callback to `InFlight.try_reserve`.
        in_flight: the registry.

    Returns:
        False if patience was lost.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def callback() -> None:
        try:
            loop.call_soon_threadsafe(changed.set)
        except RuntimeError:  # the loop was closed: nobody waits there any more
            in_flight.give_up(callback)

    try:
        while not ask(callback):
            crowd = _crowd_of(in_flight, loop)
            crowd.join(changed)
            try:
                await changed.wait()
            finally:
                has_lost = crowd.leave(changed)
            if has_lost:
                return False
            changed.clear()
    finally:
        in_flight.give_up(callback)
    return True


class _Crowd:
    """Those who wait for capacity on one loop. One timer has patience for all of them.

    With one for each, a thousand responses that wait would cost a part of each second of it.

    Args:
        in_flight: what they wait for.
        end: called when nobody has waited for a while.
    """

    def __init__(self, in_flight: InFlight, end: Callable[[], object]) -> None:
        self._end = end
        self._patience = Patience(in_flight)
        self._waiting: OrderedDict[asyncio.Event, int] = OrderedDict()  # by the look before
        self._lost: set[asyncio.Event] = set()
        self._looks = 0
        self._is_due = False

    def join(self, waiter: asyncio.Event) -> None:
        """One waits from now on."""
        self._waiting[waiter] = self._looks
        if not self._is_due:
            self._look_later()

    def leave(self, waiter: asyncio.Event) -> bool:
        """One waits no longer; tell whether that is because patience was lost."""
        self._waiting.pop(waiter, None)
        has_lost = waiter in self._lost
        self._lost.discard(waiter)
        return has_lost

    def _look_later(self) -> None:
        self._is_due = True
        loop = asyncio.get_running_loop()
        loop.call_later(self._patience.seconds, self._look, context=Context())

    def _look(self) -> None:
        self._looks += 1
        self._is_due = False
        if self._patience.is_lost():
            self._lose()
        if self._waiting:
            self._look_later()
        else:
            self._end()

    def _lose(self) -> None:
        """Let those go who have waited for two looks, between which nothing has moved."""
        for waiter, look in list(self._waiting.items()):
            if look > self._looks - 2:
                return
            del self._waiting[waiter]
            self._lost.add(waiter)
            waiter.set()


_crowds: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[InFlight, _Crowd]] = WeakKeyDictionary()


def _crowd_of(in_flight: InFlight, loop: asyncio.AbstractEventLoop) -> _Crowd:
    crowds = _crowds.get(loop) or _crowds.setdefault(loop, {})
    if in_flight not in crowds:
        crowds[in_flight] = _Crowd(in_flight, partial(crowds.pop, in_flight))
    return crowds[in_flight]


async def within(timeout: float, waiting: Coroutine[Any, Any, object]) -> bool:
    """Wait, but no longer than ``timeout`` seconds; tell whether it came to pass."""
    try:
        await asyncio.wait_for(waiting, timeout)
    except TimeoutError:
        return False
    return True
