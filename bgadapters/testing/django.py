"""Closes Django's responses for a test, and keeps the queries of tasks out of its counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import FileResponse


def is_over(request: Any, response: Any) -> bool:
    """Whether tasks run now, since nobody closes the response where the test waits for it.

    A view that was called by hand has no URL. `django.test.AsyncClient` closes on its event loop,
    which cannot wait there; a server, in a thread of its own, after the client has all it wants.
    """
    is_stream = getattr(response, "streaming", False) and not isinstance(response, FileResponse)
    if is_stream:  # it releases at its end
        return False
    request = getattr(request, "_request", request)
    return (
        request.resolver_match is None
        or isinstance(request, ASGIRequest)
        or "SERVER_SOFTWARE" in request.META
    )


@contextmanager
def uncounted() -> Iterator[None]:
    """Keep the queries of a task out of ``assertNumQueries``, whose thread a test's tasks share."""
    counted = [c for c in connections.all(initialized_only=True) if c.force_debug_cursor]
    for connection in counted:
        connection.force_debug_cursor = False
    try:
        yield
    finally:
        for connection in counted:
            connection.force_debug_cursor = True
