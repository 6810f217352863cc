"""gevent: threads that are greenlets, all of them one thread to asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from bgadapters.core.host.modules import imported


def threads_are_greenlets() -> bool:
    """Whether gevent has patched threading."""
    monkey = imported("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def current_greenlet() -> Any:
    """Return the greenlet that runs here; None where threads are threads."""
    return imported("gevent").getcurrent() if threads_are_greenlets() else None


def start_later(thread: threading.Thread) -> None:
    """Start a thread without waiting until it has begun.

    The wait would let other greenlets run in the middle of an event loop's step, and they would
    take its loop for theirs.
    """
    imported("gevent").spawn(thread.start)


def original(module: str, name: str) -> Any:
    """Return what a module of the standard library has under a name, whatever was patched."""
    return imported("gevent.monkey").get_original(module, name)


def wait_for_thread(is_done: Callable[[Callable[[], object]], bool], timeout: float | None) -> None:
    """Wait for what a thread does that is no greenlet, while other greenlets run.

    Args:
        is_done: tells whether it is done; if not, it calls what it is given, in that thread, once
            it is.
        timeout: seconds to wait at most; None for no limit.
    """
    gevent = imported("gevent")
    loop = gevent.get_hub().loop
    done = gevent.event.Event()
    # gevent takes a loop in which nothing is registered for one where nothing can happen.
    something = loop.async_()
    something.start(_nothing)
    try:
        if not is_done(lambda: loop.run_callback_threadsafe(done.set)):
            done.wait(timeout)
    finally:
        something.stop()
        something.close()


def _nothing() -> None:
    return None
