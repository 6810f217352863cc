"""How the extension hears of an application's responses and their failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request, request_finished, request_started

from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import Runtime, enter, leave
from bgadapters.wsgi import QUEUE_KEY, on_close

NAME = "bgadapters"
"""Under which ``app.extensions`` holds the runtime of an application."""

_LATE_KEY = "bgadapters.flask.late"


def watch(app: Flask) -> None:
    """Discard a request's tasks when an exception escapes its view, though a handler answers.

    ``abort()`` and handled exceptions are known to ``handle_user_exception`` alone, what is raised
    later, by ``after_request`` functions for one, to ``handle_exception``. Both are documented
    methods of the application, and other extensions put their own in their place, at any time.
    So where ours are is looked at when a request begins.
    """
    request_started.connect(_begin, app)
    request_finished.connect(_finish_late, app)


def _begin(app: Flask, **_: Any) -> None:
    last: Any = app.handle_exception
    if not isinstance(last, _Handler):
        app.handle_exception = _LastHandler(last)  # type: ignore[method-assign,assignment]
    first: Any = app.handle_user_exception
    if not isinstance(first, _Handler):
        app.handle_user_exception = _Handler(first)  # type: ignore[method-assign,assignment]
    runtime: Runtime = app.extensions[NAME]
    queue = request.environ.get(QUEUE_KEY)
    if queue is None:
        _begin_late(runtime)


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
        environ = request.environ
        try:
            return super().__call__(*args)
        except BaseException as exc:
            if _LATE_KEY in environ:
                previous = environ.pop(_LATE_KEY)
                leave(environ[QUEUE_KEY], previous)
                environ[QUEUE_KEY].close(exc)
            raise


def discard(exception: BaseException) -> None:
    """The view of this request has failed."""
    queue: Queue | None = request.environ.get(QUEUE_KEY)
    if queue is not None:
        queue.discard(exception)


def _begin_late(runtime: Runtime) -> None:
    """Open the queue of a request that has not come through our middleware.

    What another library has kept of ``app.wsgi_app`` before it was wrapped does not call it.
    """
    environ = request.environ
    queue = environ[QUEUE_KEY] = Queue(runtime=runtime, path=request.path)
    environ[_LATE_KEY] = enter(queue)


def _finish_late(_: Flask, response: Response, **__: Any) -> None:
    """Have the response release the queue that was opened late."""
    environ = request.environ
    if _LATE_KEY not in environ:
        return
    queue, previous = environ[QUEUE_KEY], environ.pop(_LATE_KEY)

    def closed() -> None:
        leave(queue, previous)
        queue.release()

    if response.is_sequence:
        response.call_on_close(closed)
    else:  # a stream, which may break off, or a file, whose response is never told of its end
        body: Any = response.response
        response.response = on_close(environ, body, closed, queue.close)
