"""Servers that fork a process for each request: socketserver's ForkingMixIn, and so Werkzeug's."""

from __future__ import annotations

from bgadapters.core.host.modules import imported
from bgadapters.core.host.stack import callers


def ends_with_the_request() -> bool:
    """Whether this is called in a process that was forked for one request.

    It ends by ``os._exit`` when it has answered, so that no exit hook is called.
    """
    socketserver = imported("socketserver")
    if socketserver is None:
        return False
    code = socketserver.ForkingMixIn.process_request.__code__
    return any(frame.f_code is code for frame in callers())
