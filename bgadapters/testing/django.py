"""Closes Django's responses for a test, and keeps the queries of tasks out of its counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.core.signals import request_started
from django.db import connections, transaction
from django.http import FileResponse

_HANDLER = "bgadapters.testing.handler"
"""In the environ or scope of a request: the class of the handler that serves it."""
_is_listening = False


def listen() -> None:
    """Note by which handler each request is served, from now on."""
    global _is_listening
    _is_listening = True
    request_started.connect(_note_handler, dispatch_uid="bgadapters.testing")


def _note_handler(*, sender: Any, environ: Any = None, scope: Any = None, **_: Any) -> None:
    state = environ if scope is None else scope
    if isinstance(state, dict):  # others than Django's handlers send the signal with nothing
        state[_HANDLER] = sender


def _handler_of(request: Any) -> Any:
    """The handler of a request; None if there is none: a view was called by hand."""
    state = vars(request).get("scope" if isinstance(request, ASGIRequest) else "environ")
    return state.get(_HANDLER) if isinstance(state, dict) else None


def _is_client(handler: Any) -> bool:
    """Whether a handler is that of Django's test client, which closes in the test's own thread.

    Its async counterpart closes in a thread of its own.
    """
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in handler.__mro__}
    return "django.test.client.ClientHandler" in names


def is_to_be_finished(request: Any, response: Any, finish: Callable[[], None]) -> bool:
    """Whether tasks run now, since nobody closes the response where the test waits for it.

    A server closes it, in a thread of its own, after the client has all it wants; other clients
    never do. Where Django has yet to commit or to render, ``finish`` is called after that.
    """
    is_stream = getattr(response, "streaming", False) and not isinstance(response, FileResponse)
    if is_stream:  # it releases at its end
        return False
    if not _is_listening:  # Django was imported in the middle of this test
        listen()
        return request.resolver_match is None or isinstance(request, ASGIRequest)
    handler = _handler_of(request)
    if handler is None:
        return True
    return not _is_client(handler) and not _is_put_off(response, finish)


def _is_put_off(response: Any, finish: Callable[[], None]) -> bool:
    if not getattr(response, "is_rendered", True):
        response.add_post_render_callback(lambda _: finish())
        return True
    for connection in connections.all(initialized_only=True):
        blocks = connection.atomic_blocks
        if blocks and not any(getattr(block, "_from_testcase", False) for block in blocks):
            transaction.on_commit(finish, using=connection.alias)
            return True
    return False


def is_never_closed(request: Any) -> bool:
    """Whether a client has called the WSGI application by itself, and may not close a response."""
    handler = _handler_of(request)
    is_server = isinstance(request, ASGIRequest) or "SERVER_SOFTWARE" in request.META
    return handler is not None and not is_server and not _is_client(handler)


def has_hooks_left() -> bool:
    """Whether ``on_commit`` has functions that a ``TestCase`` calls, if at all, in its own time."""
    return any(
        connection.in_atomic_block
        and any(not _is_ours(function) for function in _functions_left(connection))
        for connection in connections.all(initialized_only=True)
    )


def _functions_left(connection: Any) -> list[Any]:
    return [function for _, function, *_ in connection.run_on_commit]


def _is_ours(function: Any) -> bool:
    return type(function).__module__.startswith("bgadapters.")


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
