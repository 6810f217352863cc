"""uvicorn and gunicorn's ASGI worker: when a call has to return, and when a process ends."""

from __future__ import annotations

import signal
import sys
from types import FrameType


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

    uvicorn does, and tells the application nothing until they have all ended; but its handler
    of SIGTERM is a method of its server, whose ``should_exit`` tells.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
