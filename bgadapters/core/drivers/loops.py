"""Whether an event loop runs here, told without importing asyncio."""

from __future__ import annotations

import threading

from bgadapters.core import host


def loop_runs_here() -> bool:
    """Whether an event loop is running in this thread."""
    asyncio = host.imported("asyncio")  # not imported, no loop
    if asyncio is None:
        return False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    # Under gevent the loop of one greenlet seems to be running in all of them: asyncio keeps it
    # by the thread of the system, while base_events notes the one that threading knows.
    return getattr(loop, "_thread_id", None) in {None, threading.get_ident()}
