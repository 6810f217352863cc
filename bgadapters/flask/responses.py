"""How the extension hears of an application's responses and their failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import (
    Flask,
    Request,
    Response,
    request,
    request_finished,
    request_started,
    request_tearing_down,
)

from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import LiveTasks, enter, leave
from bgadapters.flask.connections import NAME, ConnectionTasks
from bgadapters.wsgi import QUEUE_KEY, Ending, RequestQueue, on_close, open_queue

_OPENED_KEY = "bgadapters.flask.opened"


def watch(app: Flask) -> None:
    """Discard a request's tasks when an exception escapes its view, though a handler answers.

    ``abort()`` and handled exceptions are known to ``handle_user_exception`` alone, what is raised
    later, by ``after_request`` functions for one, to ``handle_exception``. Both are documented
    methods of the application, and other extensions put their own in their place, at any time.
    So where ours are is looked at when a request begins.
    """
    request_started.connect(_begin, app)


def _begin(app: Flask, **_: Any) -> None:
    last: Any = app.handle_exception
    if not isinstance(last, _Handler):
        app.handle_exception = _LastHandler(last)  # type: ignore[method-assign,assignment]
    first: Any = app.handle_user_exception
    if not isinstance(first, _Handler):
        app.handle_user_exception = _Handler(first)  # type: ignore[method-assign,assignment]
    proxy: Any = request
    here: Request = proxy._get_current_object()  # noqa: SLF001  documented; it is slow to look through
    queue = here.environ.get(QUEUE_KEY)
    rule = here.url_rule
    if rule is not None and rule.websocket:
        runtime = app.extensions[NAME]
        made = ConnectionTasks(runtime=runtime, path=request.path, method=request.method)
        _open(app, made)
    elif queue is None or queue.opener is None or not queue.is_open:
        _open(app, None)
    else:
        queue.opener = None  # from here on its environ, or a copy, is that of another request


class _Handler:
    """Stands before a method that handles an exception, and tells the request's queue of it."""

    def __init__(self, handle: Callable[..., Any]) -> None:
        self._handle = handle

    def __call__(self, *args: Any) -> Any:  # since Flask 3.2 the context comes before the exception
        discard(args[-1])
        return self._handle(*args)


class _LastHandler(_Handler):
    """The same for the method that comes last: if it raises, no response comes of the request."""

    def __call__(self, *args: Any) -> Any:
        opened = _opened_here()
        try:
            return super().__call__(*args)
        except BaseException as exc:
            if opened is not None:
                opened.queue.close(exc)
            raise


def discard(exception: BaseException) -> None:
    """The view of this request has failed."""
    queue: Queue | None = request.environ.get(QUEUE_KEY)
    if queue is not None:
        queue.discard(exception)


class _Opened:
    """A queue that was opened here, for a request whose own our middleware has not opened.

    What another library has kept of ``app.wsgi_app`` before it was wrapped does not call the
    middleware. Nor has a view that calls its own application in that way. And a WebSocket has no
    response to wait for: its tasks start as they are added.
    """

    __slots__ = ("outer", "previous", "queue")

    def __init__(self, queue: RequestQueue | LiveTasks, outer: dict[str, Any]) -> None:
        self.queue = queue
        self.outer = outer  # what the environ holds for the request in which this one is made
        self.previous = enter(queue)


def _open(app: Flask, live: LiveTasks | None) -> None:
    environ = request.environ
    outer = {key: environ[key] for key in (QUEUE_KEY, _OPENED_KEY) if key in environ}
    if live is not None:
        environ[QUEUE_KEY] = live
    else:
        open_queue(app.extensions[NAME], environ)
    environ[_OPENED_KEY] = _Opened(environ[QUEUE_KEY], outer)
    # The first time: most applications need neither, and each that listens costs each request.
    request_finished.connect(_finish, app)
    request_tearing_down.connect(_end, app)


def _opened_here() -> _Opened | None:
    """Return what was opened for this request, and not for one of which it has a copied environ."""
    environ = request.environ
    opened: _Opened | None = environ.get(_OPENED_KEY)
    return opened if opened is not None and opened.queue is environ[QUEUE_KEY] else None


def _finish(_: Flask, response: Response, **__: Any) -> None:
    """Have the response release the queue that was opened here."""
    opened = _opened_here()
    if opened is None or isinstance(opened.queue, LiveTasks):
        return
    environ = request.environ
    if opened.queue.is_used and opened.queue.batch.unconfirmed is not None:
        opened.queue.confirm()  # what it raises is answered as what a function after a view raises
    if response.is_sequence:
        response.call_on_close(Ending(opened.queue, environ).close)
    else:  # a stream, which may break off, or a file, whose response is never told of its end
        body: Any = response.response
        response.response = on_close(environ, body, opened.queue)


def _end(_: Flask, **__: Any) -> None:
    """The view of a request is over, and the functions that run after it."""
    opened = _opened_here()
    if opened is None:
        return
    leave(opened.queue, opened.previous)
    if isinstance(opened.queue, LiveTasks):
        opened.queue.end()
    environ = request.environ
    del environ[_OPENED_KEY]
    environ.update(opened.outer)
