"""Waiting on an event loop for what happens in other threads, without blocking it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from bgadapters.core import host
from bgadapters.core.drivers.in_flight import Patience
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
    thread = threading.get_ident()
    waiter = loop.create_future()

    def callback() -> None:
        if threading.get_ident() != thread:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, waiter)
        elif not waiter.done():
            waiter.set_result(None)

    if not batch.on_finished(callback):
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
        waiter = loop.create_future()


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


async def wait_until(
    ask: Callable[[Callable[[], object]], bool], patience: Patience | None = None
) -> bool:
    """Wait without blocking until ``ask(callback)`` is true; it calls back when to ask again.

    Args:
        ask: asked at first, and after each call of its callback.
        patience: how long to wait while it is not called back. Default: without end.

    Returns:
        False if patience was lost.
    """
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def callback() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(changed.set)

    while not ask(callback):
        if patience is None:
            await changed.wait()
        elif not await _comes(changed, patience):
            return False
        changed.clear()
    return True


async def _comes(changed: asyncio.Event, patience: Patience) -> bool:
    while not await within(patience.seconds, changed.wait()):
        if patience.is_lost():
            return False
    patience.renew()
    return True


async def within(timeout: float, waiting: Coroutine[Any, Any, object]) -> bool:
    """Wait, but no longer than ``timeout`` seconds; tell whether it came to pass."""
    try:
        await asyncio.wait_for(waiting, timeout)
    except TimeoutError:
        return False
    return True
