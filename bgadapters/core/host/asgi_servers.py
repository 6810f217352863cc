"""uvicorn and gunicorn's ASGI worker: when a call has to return, and when a process ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, ref


def closes_with_the_call() -> bool:
    """Whether the client of a connection that is to be closed waits for the ASGI call to return.

    gunicorn's ASGI worker is the only one of the servers that closes no earlier. It speaks
    lifespan, and waits for tasks that it cancels, so nothing is lost if the call does not wait.
    """
    return "gunicorn.workers.gasgi" in sys.modules


def raises_again(handler: object) -> bool:
    """Whether a handler of SIGTERM ends by raising it again, over the handler that it had replaced.

    uvicorn's does, when the requests that were open have ended.
    """
    server = getattr(handler, "__self__", None)
    return type(server).__module__.startswith("uvicorn.")


def raises_here(frame: FrameType | None) -> bool:
    """Whether a signal comes from where uvicorn raises it again, its own work being over."""
    return frame is not None and frame.f_globals.get("__name__", "").startswith("uvicorn.")


def is_ending() -> bool:
    """Whether the server was told to end and waits for open requests, without a limit.

    uvicorn does, and tells the application nothing until they have all ended. But the
    ``should_exit`` of its server tells, and SIGTERM is handled by a method of that; or, in a
    program that has handlers of its own, the server is served by an asyncio task of this loop.
    """
    handling = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if getattr(handling, "should_exit", False) is True:
        return True
    return getattr(_served_here(), "should_exit", False) is True


def _served_here() -> Any:
    """Return the uvicorn server that an asyncio task of the running loop serves; None for none."""
    asyncio, uvicorn = sys.modules.get("asyncio"), sys.modules.get("uvicorn.server")
    if asyncio is None or uvicorn is None:
        return None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # asked in a thread that has none
        return None
    if loop not in _servers:  # looked for once: there may be thousands of tasks
        found = (_served_by(task, uvicorn.Server) for task in asyncio.all_tasks(loop))
        _servers[loop] = next(filter(None, found), lambda: None)
    return _servers[loop]()


_servers: WeakKeyDictionary[Any, Callable[[], Any]] = WeakKeyDictionary()
"""The server of each event loop that was looked at."""


def _served_by(task: Any, kind: type) -> Callable[[], Any] | None:
    """Return a reference to the server whose ``serve`` a task runs, or awaits; None for none."""
    awaited = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None)
        server = None if frame is None else frame.f_locals.get("self")
        if isinstance(server, kind):
            return ref(server)
        awaited = getattr(awaited, "cr_await", None)
    return None
