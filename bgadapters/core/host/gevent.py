"""gevent: threads that are greenlets, all of them one thread to asyncio."""

from __future__ import annotations

import threading
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
