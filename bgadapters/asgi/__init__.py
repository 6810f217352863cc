"""When an ASGI response is complete, and a middleware for any ASGI application.

ASGI has no close hook: a response is over when the application's call returns.
The tasks then run in asyncio tasks of their own, which the call awaits, so that
servers count it as unfinished and test clients see its effects; but shielded,
since some servers cancel the call of a client that left. With the setting
``await_tasks=False`` the call returns, and the end of the lifespan waits for them.

A WebSocket has no response to wait for: its tasks start as they are added.
"""

from __future__ import annotations

from bgadapters.adapters import prepare_loops
from bgadapters.asgi.middleware import BackgroundTasksMiddleware
from bgadapters.asgi.response import (
    RESPONSE_KEY,
    NoResponseSent,
    Response,
    check_header,
    open_response,
)

__all__ = [
    "RESPONSE_KEY",
    "BackgroundTasksMiddleware",
    "NoResponseSent",
    "Response",
    "check_header",
    "open_response",
]

prepare_loops()
