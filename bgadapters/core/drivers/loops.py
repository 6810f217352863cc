"""Which event loop runs here, if any, told without importing asyncio."""

from __future__ import annotations

import threading
from typing import Any

from bgadapters.core import host

_asyncio: Any = None  # the module, once it was imported


def running_loop() -> Any:
    """Return the event loop that is running in this thread, None where none does."""
    global _asyncio
    if _asyncio is None:
        _asyncio = host.imported("asyncio")
    # Where no loop runs, get_running_loop() would make an exception for each response.
    # asyncio.events has this one in its __all__.
    loop = None if _asyncio is None else _asyncio._get_running_loop()  # noqa: SLF001
    if loop is None:
        return None
    # Under gevent the loop of one greenlet seems to be running in all of them: asyncio keeps it
    # by the thread of the system, while base_events notes the one that threading knows.
    return loop if getattr(loop, "_thread_id", None) in {None, threading.get_ident()} else None


def loop_runs_here() -> bool:
    """Whether an event loop is running in this thread."""
    return running_loop() is not None
