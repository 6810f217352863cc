"""The event loop for async tasks where the server has none."""

from __future__ import annotations

import asyncio
import logging
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any

from bgadapters.core import host
from bgadapters.core.drivers.origin_loop import LoopDriver
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch


class BackgroundLoop:
    """The long-lived event loop that async tasks share where the server has none.

    It runs in a daemon thread of its own, from the first async task on, so that a client or a
    connection pool bound to it can be kept between tasks.

    Args:
        driver: runs batches on it.
    """

    def __init__(self, driver: LoopDriver) -> None:
        self._driver = driver
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start without a loop: at first, and in a forked child."""
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None  # guarded by _lock
        self._thread: threading.Thread | None = None  # guarded by _lock

    def stop(self) -> None:
        """Close the loop and wait until its thread has ended. What it still runs is lost.

        A process needs none of this, for its end takes the thread along. Tests make a loop each.
        """
        with self._lock:
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            with suppress(RuntimeError):  # a task has closed it
                loop.call_soon_threadsafe(_end)
            thread.join()

    def start(self, batch: Batch) -> bool:
        """Have this loop take a batch, from any thread; False where there can be none."""
        loop = self._started()
        return loop is not None and self._driver.start_on(loop, batch)

    def _started(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is None and host.has_threads():
                try:
                    # A loop keeps the context in which it was made: that of no request.
                    loop, run = Context().run(_new_loop)
                except OSError as exc:  # no file descriptor is left
                    guard.log(logging.WARNING, "No event loop can be made: %s", exc)
                    return None
                thread = threading.Thread(target=run, name="bgadapters-loop", daemon=True)
                try:
                    host.start_thread(thread, at_once=True)
                except RuntimeError:
                    loop.close()
                else:
                    self._loop, self._thread = loop, thread
            return self._loop


class _End(SystemExit):
    """Ends the thread of a loop. asyncio lets exceptions of no other kind out of a loop."""


def _end() -> None:
    raise _End


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop until it is closed, whatever a task has done to it or left on it."""
    while not loop.is_closed():
        try:
            loop.run_forever()  # returns when a task has stopped it
        except _End:
            loop.close()
        except BaseException as exc:  # SystemExit, KeyboardInterrupt: asyncio lets them out
            message = "Something that a background task has started has failed"
            guard.log(logging.ERROR, message, exc_info=exc)


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
