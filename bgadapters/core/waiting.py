"""Waiting on an event loop for what happens in other threads, without blocking it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from bgadapters.core import host

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks

LOOK = 1.0  # seconds after which those who wait look whether the server is ending


async def finished(queue: BackgroundTasks) -> None:
    """Wait until a released queue has finished. Cancelling the wait cancels no task.

    On a server that is told to end, wait no longer than the drain timeout.
    """
    loop = asyncio.get_running_loop()
    thread = threading.get_ident()
    waiter = loop.create_future()

    def waker() -> None:
        if threading.get_ident() == thread:
            _wake(waiter)
        else:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(_wake, waiter)

    if not queue._when_finished(waker):
        return
    looks = _looks_of(loop)
    while True:
        looks.add(waiter)
        try:
            await waiter
        finally:
            looks.discard(waiter)
        if not queue.is_running:
            return
        if host.is_ending():  # a server that waits for this, and sets itself no deadline
            await queue.runtime.adrain()
            return
        waiter = loop.create_future()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Looks:
    """Wakes all those who wait on one loop, from time to time.

    One timer for all of them: one for each would be a tenth of the cost of a response with a task.
    """

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()
        self._is_due = False

    def add(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.add(waiter)
        if not self._is_due:
            self._is_due = True
            waiter.get_loop().call_later(LOOK, self._look)

    def discard(self, waiter: asyncio.Future[None]) -> None:
        self._waiters.discard(waiter)

    def _look(self) -> None:
        self._is_due = False
        for waiter in self._waiters:
            _wake(waiter)


_looks: WeakKeyDictionary[asyncio.AbstractEventLoop, _Looks] = WeakKeyDictionary()


def _looks_of(loop: asyncio.AbstractEventLoop) -> _Looks:
    try:
        return _looks[loop]
    except KeyError:
        return _looks.setdefault(loop, _Looks())


async def wait_until(poll: Callable[[Callable[[], object]], bool]) -> None:
    """Wait without blocking until ``poll(waker)`` is true; it calls ``waker`` when to ask again."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def waker() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(changed.set)

    while not poll(waker):
        await changed.wait()
        changed.clear()


async def within(timeout: float, waiting: Coroutine[Any, Any, None]) -> bool:
    """Wait, but no longer than ``timeout`` seconds; tell whether it came to pass."""
    try:
        await asyncio.wait_for(waiting, timeout)
    except TimeoutError:
        return False
    return True
