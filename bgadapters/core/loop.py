"""Run a queue on an event loop, which may end at any moment.

Imported when the first async task or ASGI response comes, since asyncio is most
of what importing this package would otherwise cost.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from bgadapters.core import rehearsal
from bgadapters.core.runner import run_batch
from bgadapters.core.steps import run_async_batch
from bgadapters.core.waiting import wait_until, within

if TYPE_CHECKING:
    from bgadapters.core.backlog import Backlog
    from bgadapters.core.queue import BackgroundTasks


_STOPS = 3  # how often a loop may be stopped again


async def arun(queue: BackgroundTasks) -> None:
    """Run the async tasks at the head of a queue on the running loop; then hand it on.

    Sync tasks that follow go to the worker threads, which give it back for the next
    async ones; those of a bridge stay with this thread.
    """
    bridge = bridge_of(queue)
    try:
        if bridge is None:
            await run_async_batch(queue)
        else:
            await _run_bridged(queue, bridge)
    except GeneratorExit:
        _leave_loop(queue)
        raise
    if not queue._finish():
        queue.runtime.resume(queue)


def bridge_of(queue: BackgroundTasks) -> rehearsal.Bridge | None:
    """How this queue keeps to one thread, if somebody looks on."""
    return None if rehearsal.audience is None else queue.runtime.bridge


def _leave_loop(queue: BackgroundTasks) -> None:
    """The loop has ended, or somebody cancelled the driver: the queue goes on without them."""
    queue._home = None
    queue.runtime.resume(queue)


def cancel(driver: asyncio.Task[None]) -> None:
    """Cancel the driver of a queue, from any thread."""
    with suppress(RuntimeError):  # its loop is closed, so it does not run any more
        driver.get_loop().call_soon_threadsafe(driver.cancel)


async def _run_bridged(queue: BackgroundTasks, bridge: rehearsal.Bridge) -> None:
    while len(queue) or queue._awaited is not None:
        await run_async_batch(queue)
        await bridge.to_async(run_batch)(queue)


_closing: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # no driver may be added to these

_AT_ONCE: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""How to have an asyncio task take its first step where it is made, before anything else runs."""


class _Driver(asyncio.Task[None]):
    """The asyncio task of a queue: a loop that is about to be closed waits for it.

    ``asyncio.run`` and servers cancel what is left of a loop that they have stopped, and run
    it again until all of that has ended. There the queue gets its drain timeout first.
    """

    _is_put_off = False

    def __init__(self, queue: BackgroundTasks, how: dict[str, Any]) -> None:
        self._queue = queue
        queue._driver = self  # first, for the queue may have finished when this returns
        super().__init__(arun(queue), loop=asyncio.get_running_loop(), **how)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, on a loop that runs; on one that has stopped, only after the drain timeout."""
        loop = self.get_loop()
        if loop.is_running() or loop.is_closed():
            return super().cancel(msg)
        if not self._is_put_off:
            self._is_put_off = True
            _closing.add(loop)
            loop.call_later(self._queue.runtime.settings.drain_timeout, self._give_up)
        return False

    def _give_up(self) -> None:
        """Abandon the queues of this loop; the process and its other queues may well go on."""
        if not self.done():
            runtime = self._queue.runtime
            live = runtime.backlog.live()
            runtime.give_up(
                runtime.settings.drain_timeout,
                [queue for queue in live if queue._home is self._queue._home],
            )
            runtime.backlog.disown_abandoned()


def run_stopped(backlog: Backlog, timeout: float) -> None:
    """At exit: run the loops that have stopped before their queues had finished, until they have.

    Queues of a loop that is closed go on without it.
    """
    deadline = time.monotonic() + timeout
    homes = {queue: queue._home for queue in backlog.live() if queue._home is not None}
    for queue, home in homes.items():
        if home.is_closed():
            _rescue(queue)
    for home in set(homes.values()):
        for _ in range(_STOPS):
            if home.is_closed() or home.is_running():
                break
            left = max(0.0, deadline - time.monotonic())
            waiting = home.create_task(
                within(left, wait_until(partial(backlog.is_idle, home=home)))
            )
            with suppress(RuntimeError):  # a stop that was pending has stopped it again
                home.run_until_complete(waiting)
                break


def _rescue(queue: BackgroundTasks) -> None:
    """Take a queue from a loop that was closed and will never step its driver again."""
    driver = queue._driver
    if driver is None or driver.done():  # a worker has the queue, and will see
        return
    coroutine: Any = driver.get_coro()
    coroutine.close()
    if queue._home is not None:  # it had not begun
        _leave_loop(queue)


def go_home(queue: BackgroundTasks, at_once: bool) -> None:
    """Start a queue whose async tasks belong to the loop this is called in.

    Where the caller is about to wait for them, ``at_once``, they may begin before this returns:
    a queue whose tasks wait for nothing then costs no turn of the loop.
    """
    queue._home = asyncio.get_running_loop()
    if queue._starts_async() or bridge_of(queue) is not None:
        drive(queue, _AT_ONCE if at_once else {})
    else:
        queue.runtime.resume(queue)


def drive(queue: BackgroundTasks, how: dict[str, Any] | None = None) -> None:
    """Start the driver of a queue on the loop this is called in, unless that is about to go."""
    if asyncio.get_running_loop() in _closing:
        _leave_loop(queue)
        return
    driver = _Driver(queue, how or {})

    def ended(_: object) -> None:  # a coroutine that never began could not tell by itself
        if driver.cancelled():
            _leave_loop(queue)

    if driver.done():
        ended(driver)
    else:
        driver.add_done_callback(ended)
