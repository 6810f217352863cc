"""Frameworks that answer a view's exception out of a middleware's sight, and what tells of it.

Each has a signal or a hook of its own for that. Nothing is imported here unless an application
of that framework is wrapped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import iscoroutinefunction
from typing import Any

from bgadapters.adapters import BackgroundTasksError

Fail = Callable[[Any, BaseException], None]
"""Called with the scope of a request and why it failed."""


class AnsweredException(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """The framework has answered an exception, and did not say which."""


def listen(app: object, fail: Fail) -> None:
    """Have a framework tell of the exceptions that it answers.

    Args:
        app: an application, or the method of one that serves.
        fail: what is to be told.
    """
    owner = getattr(app, "__self__", app)
    for cls in type(owner).__mro__:
        hook = _HOOKS.get(f"{cls.__module__}.{cls.__qualname__}")
        if hook is not None:
            hook(owner, fail)
            return


async def refuse(exception: BackgroundTasksError, scope: Any, receive: Any, send: Any) -> None:
    """Answer a request with an error: as the application's handler for it does, else with 503.

    Args:
        exception: the error.
        scope: that of the request.
        receive: as the server gave it.
        send: as the server gave it.
    """
    handlers = getattr(scope.get("app"), "exception_handlers", None)  # as Starlette has them
    found, kinds = None, type(exception).__mro__
    if isinstance(handlers, Mapping):
        found = next((handlers[key] for key in (*kinds, 503) if key in handlers), None)
    if found is not None:
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request

        request = Request(scope, receive)
        if iscoroutinefunction(found):
            response = await found(request, exception)
        else:
            response = await run_in_threadpool(found, request, exception)
        await response(scope, receive, send)
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", b"10")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"Service Unavailable"})


def _quart(app: Any, fail: Fail) -> None:
    # https://quart.palletsprojects.com/en/latest/reference/source/quart.signals.html
    from quart import got_request_exception, request

    async def failed(_: object, exception: Exception, **__: object) -> None:
        fail(request.scope, exception)

    got_request_exception.connect(failed, sender=app, weak=False)


def _falcon(app: Any, fail: Fail) -> None:
    # https://falcon.readthedocs.io/en/stable/api/middleware.html

    class Listener:
        async def process_response(self, req: Any, _: object, __: object, succeeded: bool) -> None:
            if not succeeded:
                fail(req.scope, AnsweredException())

    app.add_middleware(Listener())


def _blacksheep(app: Any, fail: Fail) -> None:
    # https://www.neoteroi.dev/blacksheep/middlewares/

    async def listener(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        try:
            return await handler(request)
        except Exception as exc:
            fail(request.scope, exc)
            raise

    app.middlewares.append(listener)


_HOOKS: dict[str, Callable[[Any, Fail], None]] = {
    "quart.app.Quart": _quart,
    "falcon.asgi.app.App": _falcon,
    "blacksheep.server.application.Application": _blacksheep,
}
