"""Adapters of platforms that freeze a process: tasks have run when the handler returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from flask import Flask, Response, abort

import bgadapters
from bgadapters.fastapi import init_app
from bgadapters.flask import BackgroundTasks
from tests.gateways.serverless import (
    VERSIONS,
    WSGI_ADAPTERS,
    add,
    add_for_later,
    check_held,
    check_waits,
    event,
    log,
    mangum,
    serverless_wsgi,
)
from tests.gateways.wsgi_calls import environ
from tests.our_log import OurLog

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    log.clear()
    yield
    assert bgadapters.drain(10) == []


def flask(app: Flask | None = None, **settings: Any) -> Flask:
    app = app or Flask("app")
    BackgroundTasks(app, **settings)

    @app.get("/text")
    def text() -> str:
        add()
        return "text"

    @app.get("/stream")
    def stream() -> Response:
        def parts() -> Iterator[str]:
            yield "te"
            add()
            yield "xt"

        return Response(parts(), mimetype="text/plain")

    @app.get("/nothing")
    def nothing() -> tuple[str, int]:
        add()
        return "", 204

    @app.get("/abort")
    def aborted() -> str:
        add()
        abort(404)

    @app.get("/later")
    def later() -> str:
        add_for_later()
        return "text"

    return app


def fastapi(**settings: Any) -> FastAPI:
    app = FastAPI()
    init_app(app, **settings)

    @app.get("/text")
    def text() -> str:
        add()
        return "text"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        add()
        return StreamingResponse(iter(["te", "xt"]), media_type="text/plain")

    @app.get("/nothing", status_code=204)
    async def nothing() -> None:
        add()

    @app.get("/abort")
    async def aborted() -> None:
        add()
        raise HTTPException(404)

    @app.get("/later")
    def later() -> str:
        add_for_later()
        return "text"

    return app


@pytest.fixture
def _loop() -> Iterator[None]:
    """The event loop that Mangum takes for its own."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.mark.usefixtures("_loop")
@pytest.mark.parametrize("version", VERSIONS)
def test_fastapi_with_mangum(our_log: OurLog, version: str) -> None:
    check_held(mangum(fastapi(hold_response=True)), version, our_log)


@pytest.mark.parametrize("adapter", WSGI_ADAPTERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_flask(our_log: OurLog, adapter: str, version: str) -> None:
    check_held(WSGI_ADAPTERS[adapter](flask(hold_response=True)), version, our_log)


@pytest.mark.usefixtures("_loop")
def test_fastapi_waits_for_what_is_due(our_log: OurLog) -> None:
    check_waits(mangum(fastapi(hold_response=True)), our_log)
    assert "1 background task(s) abandoned" in our_log.warnings[-1]  # Mangum ends the lifespan


@pytest.mark.parametrize("adapter", WSGI_ADAPTERS)
def test_flask_waits_for_what_is_due(our_log: OurLog, adapter: str) -> None:
    check_waits(WSGI_ADAPTERS[adapter](flask(hold_response=True)), our_log)
    assert bgadapters.drain(0) == ["too late"]


def azure_functions(app: WSGIApplication, path: str = "/text") -> list[bytes]:
    """As ``azure.functions.WsgiMiddleware`` reads a response: to its end, and never closes it."""
    return [part or b"" for part in app(environ(path=path), lambda *_: lambda _: None)]


def lambda_handler(app: WSGIApplication, path: str = "/text") -> Any:
    return serverless_wsgi(app)(event("2.0", path), None)


@pytest.mark.parametrize("call", [azure_functions, lambda_handler])
def test_without_the_setting_it_says_who_closes_no_response(
    our_log: OurLog, call: Callable[[WSGIApplication], Iterable[bytes]]
) -> None:
    app = flask()
    for _ in range(2):
        call(app)
        (said,) = our_log.warnings
        assert f"(in {__name__ if call is azure_functions else 'serverless_wsgi'})" in said
        assert "hold_response=True" in said
        with pytest.raises(bgadapters.NoResponseError):
            bgadapters.add_task(log.append, "nobody's")
        assert bgadapters.drain(10) == []
    assert log == ["plain", "async", "always"] * 2


@pytest.mark.parametrize("call", [azure_functions, lambda_handler])
@pytest.mark.parametrize("path", ["/text", "/stream"])
def test_with_the_setting_what_is_dropped_waits_too(call: Callable[..., object], path: str) -> None:
    """A copy of ``wsgi_app`` that was kept before the extension has wrapped it."""
    app = Flask("app")
    kept = app.wsgi_app
    flask(app, hold_response=True)
    call(kept, path)
    assert log == ["plain", "async", "always"]
