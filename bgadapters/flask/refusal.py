"""How Flask answers a request of which the durable tasks cannot be kept.

That is known when the view and the functions after it have run, and nothing was sent. So it is
answered as an exception of a view is: by the error handlers, and with those functions once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.exceptions import ServiceUnavailable

from bgadapters.adapters import BackgroundTasksError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# Since Flask 3.2 methods of the application get the context first.
_GETS_CONTEXT = "ctx" in signature(Flask.handle_user_exception).parameters


def refuse(
    app: Flask,
    exception: BackgroundTasksError,
    environ: WSGIEnvironment,
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Answer with the application's handler of the error, or of 503.

    Args:
        app: the application.
        exception: the error.
        environ: that of the request.
        start_response: begins the response.
    """
    context: Any = app.request_context(environ)
    with context:
        response = _method(app.finalize_request, context)(
            _answer(app, context, exception), from_error_handler=True
        )
    return response(environ, start_response)  # type: ignore[no-any-return]  # a response of Flask


def _answer(app: Flask, context: Any, exception: BackgroundTasksError) -> Any:
    """What a handler returns for the error; else what one does for a 503, or that itself."""
    try:
        return _method(app.handle_user_exception, context)(exception)
    except Exception as raised:
        if raised is not exception:
            raise
        return _method(app.handle_http_exception, context)(ServiceUnavailable(retry_after=10))


def _method(method: Callable[..., Any], context: Any) -> Callable[..., Any]:
    return partial(method, context) if _GETS_CONTEXT else method
