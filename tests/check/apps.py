"""Applications to be checked, sound ones and broken ones; each is made anew for each check."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from fastapi import FastAPI, HTTPException
from flask import Flask, abort
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bgadapters import add_task, asgi, wsgi
from bgadapters.adapters import Runtime, answer_check
from bgadapters.fastapi import BackgroundTasks, init_app
from bgadapters.flask import BackgroundTasks as FlaskBackgroundTasks

# Sound ones.


def held_flask_app() -> Flask:
    return flask_app(hold_response=True)


def held_fastapi_app() -> FastAPI:
    app = FastAPI()
    init_app(app, hold_response=True)

    @app.get("/")
    def view() -> str:
        return "sound"

    return app


def flask_app(**settings: Any) -> Flask:
    app = Flask(__name__)
    background_tasks = FlaskBackgroundTasks(app, **settings)

    @app.get("/")
    def view() -> str:
        background_tasks.add_task(str)
        return "sound"

    @app.get("/stream")
    def stream() -> Iterator[str]:
        yield from "sound"

    @app.get("/gone")
    def gone() -> str:
        abort(410)

    @app.post("/post")
    def post() -> str:
        return "sound"

    return app


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def view(background_tasks: BackgroundTasks) -> str:
        background_tasks.add_task(str)
        return "sound"

    @app.get("/gone")
    def gone(background_tasks: BackgroundTasks) -> str:
        raise HTTPException(410)

    @app.get("/without")
    def without() -> str:
        return "no background tasks here"

    return app


def configured_fastapi_app() -> FastAPI:
    app = fastapi_app()
    init_app(app, max_workers=3)
    return app


def bare_wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/raises":
        raise LookupError("the view failed\nin two lines")
    if environ["PATH_INFO"] == "/headers":
        assert environ["HTTP_X_SECRET"] == "a: b"
        assert environ["CONTENT_TYPE"] == "text/plain"
        assert environ["QUERY_STRING"] == "a=1"
    if environ["PATH_INFO"] == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))  # type: ignore[no-any-return]
    if environ["PATH_INFO"] == "/unclosable":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](Unclosable())  # type: ignore[no-any-return]
    if environ["PATH_INFO"] == "/endless":
        start_response("200 OK", [])
        return iter(lambda: b"more", b"")
    add_task(str)
    start_response("200 OK", [("Content-Length", "5")])(b"so")
    return [b"und"]


class Unclosable:
    """What can be read like a file and has no close()."""

    def read(self, _: int) -> bytes:
        return b""


async def bare_asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    assert (await receive())["type"] == "http.request"
    if scope["path"] == "/raises":
        raise LookupError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"so", "more_body": True})
    if scope["path"] == "/endless":
        await receive()
    await send({"type": "http.response.body", "body": b"und"})
    assert (await receive())["type"] == "http.disconnect"


def wsgi_app() -> wsgi.BackgroundTasksMiddleware:
    return wsgi.BackgroundTasksMiddleware(bare_wsgi)


def asgi_app() -> asgi.BackgroundTasksMiddleware:
    return asgi.BackgroundTasksMiddleware(bare_asgi)


def a2wsgi_app() -> Any:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(flask_app())  # type: ignore[arg-type]  # it types WSGI more narrowly


# Adapters that never call close().


def asgiref_app() -> Any:
    from asgiref.wsgi import WsgiToAsgi

    return WsgiToAsgi(flask_app())  # type: ignore[no-untyped-call]


def starlette_app() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware

        return WSGIMiddleware(flask_app())


def uvicorn_app() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from uvicorn.middleware import wsgi as adapter

        return adapter._WSGIMiddleware(flask_app())  # type: ignore[arg-type]


# Middlewares that keep their application from keeping the promises.


class NeverCloses:
    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return [b"".join(self.app(environ, start_response))]


class ClosesEarly:
    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        body = self.app(environ, start_response)
        try:
            return [b"".join(body)]
        finally:
            body.close()


class CallsTwice:
    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        self.app(environ.copy(), lambda *_: lambda _: None).close()
        return self.app(environ, start_response)  # type: ignore[no-any-return]


class ClosesInItsOwnTime:
    """It runs what its application has left to do before it passes the response on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        for message in messages:
            await send(message)


class Hides(BaseHTTPMiddleware):
    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)


def never_closed() -> Any:
    return NeverCloses(flask_app())


def closed_early() -> Any:
    return ClosesEarly(flask_app())


def called_twice() -> Any:
    return CallsTwice(flask_app())


def buffered() -> Any:
    return ClosesInItsOwnTime(configured_fastapi_app())


def hidden() -> FastAPI:
    app = fastapi_app()
    app.add_middleware(Hides)
    app.add_middleware(asgi.BackgroundTasksMiddleware)
    return app


def hidden_by_a_function() -> FastAPI:
    app = fastapi_app()

    @app.middleware("http")
    async def hides(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await call_next(request)

    app.add_middleware(asgi.BackgroundTasksMiddleware)
    return app


def not_hidden() -> FastAPI:
    app = fastapi_app()
    app.add_middleware(Hides)
    init_app(app)
    return app


def inside() -> FastAPI:
    app = configured_fastapi_app()
    app.add_middleware(Passes)
    return app


def inside_of_hiding() -> FastAPI:
    app = configured_fastapi_app()
    app.add_middleware(Hides)
    return app


class Passes:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


def without_lifespan() -> Any:
    """As an application does that has no use for the protocol."""
    inner = fastapi_app()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await inner(scope, receive, send)

    return app


def mounted() -> FastAPI:
    """The middleware is in an application that hears of no shutdown."""
    outer = FastAPI()
    outer.mount("/", configured_fastapi_app())
    return outer


def two_queues() -> Any:
    """A shim of somebody else's, inside the middleware, opens a queue of its own."""
    runtime = Runtime()

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        from bgadapters import BackgroundTasks as Queue

        with Queue(runtime=runtime) as queue:
            answer_check(queue, environ.get("HTTP_BGADAPTERS_CHECK"), "example.shim")
        return bare_wsgi(environ, start_response)

    return wsgi.BackgroundTasksMiddleware(app)


def full() -> Flask:
    app = flask_app(on_full="reject", max_pending=1)
    app.extensions["bgadapters"].in_flight.reserve(1)
    return app


def saturated() -> Flask:
    """So much to do that the thread that serves has to wait."""
    app = flask_app(max_pending=1)
    app.extensions["bgadapters"].in_flight.reserve(1)
    return app


def without_drain() -> Flask:
    return flask_app(drain_timeout=0)


async def _fails_to_start(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed"})
    raise OSError("no database")


def fails_to_start() -> Any:
    return _fails_to_start


def plain_asgi_function() -> Any:
    """An ASGI application that does not look like one, but for its three arguments."""
    app = asgi_app()

    def call(scope: Any, receive: Any, send: Any) -> Any:
        return app(scope, receive, send)

    return call


class Namespace:
    app = staticmethod(bare_wsgi)


nothing = 42


def returns_nothing() -> Any:
    return None


made_flask_app = flask_app()  # for servers that call no factory
