"""The event loop for async tasks where the server has none."""

from __future__ import annotations

import asyncio
import logging
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import finalize

from bgadapters.core import host
from bgadapters.core.current import owner
from bgadapters.core.loop import bridge_of, drive
from bgadapters.core.steps import run_async_batch

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks


logger = logging.getLogger("bgadapters")


class Loop:
    """The long-lived event loop that async tasks share where the server has none.

    It runs in a daemon thread of its own, from the first async task on, so that a
    client or a connection pool bound to it can be kept between tasks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # guarded by _lock
        self._turn = threading.Lock()
        self._threadless: asyncio.AbstractEventLoop | None = None  # guarded by _turn

    def spawn(self, queue: BackgroundTasks) -> bool:
        """Run the rest of a queue on this loop. Callable from any thread.

        False where no thread can be had for it.
        """
        loop = self._started()
        if loop is not None:
            loop.call_soon_threadsafe(drive, queue)
        return loop is not None

    def run_here(self, queue: BackgroundTasks) -> None:
        """Run the async tasks at the head of a queue in this thread."""
        bridge = bridge_of(queue)
        if bridge is not None:
            bridge.to_sync(run_async_batch)(queue)
            return
        if not self._turn.acquire(blocking=owner.get() is None):
            # The task that is having its turn may be waiting for what is done here.
            asyncio.run(run_async_batch(queue))
            return
        try:
            if self._threadless is None:
                self._threadless = asyncio.new_event_loop()
                finalize(self, self._threadless.close)
            self._threadless.run_until_complete(run_async_batch(queue))
        finally:
            self._turn.release()

    def _started(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is None and host.threads_run():
                loop, run = _new_loop()
                try:
                    threading.Thread(target=run, name="bgadapters-loop", daemon=True).start()
                except RuntimeError:
                    loop.close()
                else:
                    self._loop = loop
            return self._loop


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop on, whatever an asyncio task of a task's own has raised."""
    while True:
        try:
            loop.run_forever()
        except BaseException:  # SystemExit, KeyboardInterrupt: asyncio lets them out of the loop
            logger.exception("Something that a background task has started has failed")
        else:
            return


def _new_loop() -> tuple[asyncio.AbstractEventLoop, Callable[[], None]]:
    """Make a loop, and what is to be called in a thread of its own."""
    if not host.threads_are_greenlets():
        loop = asyncio.new_event_loop()
        return loop, partial(_run_forever, loop)
    return _new_greenlet_loop()


def _new_greenlet_loop() -> tuple[asyncio.AbstractEventLoop, Callable[[], None]]:
    """Make a loop that hides from other greenlets when these may run.

    asyncio keeps the running loop by the thread of the system, so that in all of them
    ``asyncio.run``, asgiref's ``async_to_sync`` and Django's ORM would refuse to work. They run
    while it waits, and while it hands work to an executor, whose locks let them.
    """
    others: asyncio.AbstractEventLoop | None = None  # that which runs in another greenlet

    @contextmanager
    def hidden() -> Iterator[None]:
        nonlocal others
        asyncio._set_running_loop(others)
        try:
            yield
        finally:
            others = asyncio._get_running_loop()
            asyncio._set_running_loop(loop)

    class Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]
        def select(self, timeout: float | None = None) -> Any:
            with hidden():
                return super().select(timeout)

    class Loop(asyncio.SelectorEventLoop):
        def run_in_executor(  # type: ignore[override]
            self, executor: Any, func: Any, *args: Any
        ) -> asyncio.Future[Any]:
            with hidden():
                return super().run_in_executor(executor, func, *args)

    def run() -> None:
        nonlocal others
        others = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        _run_forever(loop)

    loop = Loop(Selector())
    return loop, run
