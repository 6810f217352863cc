"""Connections that last: their tasks start as they are added, for no response ever comes.

A WebSocket route of Flask's is served by a view, which is known before it begins. What handles
the events of Flask-SocketIO, or gevent-websocket's connections, gets a request context of its own
and is no view: there the queue is made when the first task is added.
"""

from __future__ import annotations

from typing import Any

from flask import current_app, has_request_context, request

from bgadapters.adapters import LiveTasks, Runtime

NAME = "bgadapters"
"""Under which ``app.extensions`` holds the runtime of an application."""

_LIVE_KEY = "bgadapters.flask.live"


class ConnectionTasks(LiveTasks):
    """The queue of one connection."""

    __slots__ = ()

    opener = None  # as of a request that Flask serves; see `bgadapters.wsgi.RequestQueue`


def event_queue() -> LiveTasks | None:
    """Return the queue of the connection of which an event is handled here, None anywhere else."""
    if not has_request_context() or not _is_event():
        return None
    runtime: Runtime | None = current_app.extensions.get(NAME)
    if runtime is None:
        return None
    environ = request.environ  # that of the connection, for all of its events
    queue: LiveTasks | None = environ.get(_LIVE_KEY)
    if queue is None:
        made = ConnectionTasks(runtime=runtime, path=request.path, method=request.method)
        queue = environ.setdefault(_LIVE_KEY, made)  # another thread may have been faster
    return queue


def _is_event() -> bool:
    handled: Any = request
    # What Flask-SocketIO documents for its handlers, and what gevent-websocket sets.
    return (hasattr(handled, "sid") and hasattr(handled, "namespace")) or (
        handled.environ.get("wsgi.websocket") is not None
    )
