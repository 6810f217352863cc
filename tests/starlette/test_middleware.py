"""The middleware around plain Starlette, and ``add_task``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import bgadapters
from bgadapters import SettingsError, add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, Lifespan, noting, others_wait, websocket
from tests.starlette.apps import get, starlette


def test_sync_and_async_endpoints_may_add_tasks() -> None:
    log: list[str] = []

    async def async_endpoint(request: Request) -> Response:
        add_task(log.append, "async endpoint")
        return PlainTextResponse("body")

    def sync_endpoint(request: Request) -> Response:
        add_task(log.append, "sync endpoint")
        return PlainTextResponse("body")

    class Endpoint(HTTPEndpoint):
        async def get(self, request: Request) -> Response:
            add_task(log.append, "endpoint class")
            return PlainTextResponse("body")

    for endpoint in (async_endpoint, sync_endpoint, Endpoint):
        assert get(starlette(endpoint)) == "body"
    assert log == ["async endpoint", "sync endpoint", "endpoint class"]


def test_tasks_start_after_the_last_byte() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "task")
        return PlainTextResponse("body")

    async def main() -> None:
        client = noting(log)
        await client.request(starlette(endpoint))

    asyncio.run(main())
    assert log == ["sent", "task"]


def test_every_kind_of_response_runs_its_tasks(tmp_path: Path) -> None:
    file = tmp_path / "file.txt"
    file.write_text("body")
    log: list[str] = []

    async def stream() -> AsyncIterator[bytes]:
        yield b"bo"
        yield b"dy"

    makers = [
        lambda: PlainTextResponse("body"),
        lambda: FileResponse(file),
        lambda: StreamingResponse(stream()),
        lambda: PlainTextResponse("body", status_code=500),
        lambda: RedirectResponse("/elsewhere"),
        lambda: Response(status_code=204),
    ]
    for make in makers:

        async def endpoint(request: Request, make: Any = make) -> Response:
            add_task(log.append, "task")
            response: Response = make()
            return response

        app = starlette(endpoint)
        assert get(app) in ("body", "")
        assert log == ["task"]
        TestClient(app, follow_redirects=False).head("/")
        assert log == ["task", "task"]
        log.clear()


def test_a_response_with_a_background_of_its_own_loses_nothing() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "ours")
        return PlainTextResponse("body", background=BackgroundTask(log.append, "own"))

    assert get(starlette(endpoint)) == "body"
    assert sorted(log) == ["ours", "own"]


@pytest.mark.parametrize("error", [HTTPException(409), ValueError("failed")])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_exception_of_the_endpoint_discards(kind: str, error: Exception) -> None:
    """Starlette turns an HTTPException into a response before any middleware sees it."""
    log: list[str] = []

    def sync_endpoint(request: Request) -> Response:
        add_task(log.append, "discarded")
        raise error

    async def async_endpoint(request: Request) -> Response:
        return sync_endpoint(request)

    get(starlette(sync_endpoint if kind == "sync" else async_endpoint))
    bgadapters.drain()
    assert log == []


def test_an_exception_handler_may_add_tasks_of_its_own() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "discarded")
        raise HTTPException(409)

    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("handled", status_code=409)

    assert get(starlette(endpoint, exception_handlers={409: handle})) == "handled"
    assert log == ["handler"]


def test_a_response_returned_from_an_except_block_runs_its_tasks() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "task")
        try:
            raise KeyError
        except KeyError:
            return PlainTextResponse("body", status_code=404)

    assert get(starlette(endpoint)) == "body"
    assert log == ["task"]


def test_a_stream_that_breaks_off_discards() -> None:
    log: list[str] = []

    async def stream() -> AsyncIterator[bytes]:
        yield b"bo"
        raise ValueError("half way")

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "discarded")
        return StreamingResponse(stream())

    async def main() -> None:
        with pytest.raises(ValueError, match="half way"):
            await Client().request(starlette(endpoint))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == []


def test_mounted_applications_share_the_queue_of_the_outer_one() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "task")
        return PlainTextResponse("body")

    outer = Starlette(
        routes=[Mount("/inner", starlette(endpoint))],
        middleware=[Middleware(BackgroundTasksMiddleware, on_event=lambda e: log.append(e.kind))],
    )
    assert TestClient(outer).get("/inner/").text == "body"
    assert log == ["added", "started", "task", "succeeded"]


def test_a_middleware_on_one_route_serves_that_route() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "task")
        return PlainTextResponse("body")

    route = Route("/", endpoint, middleware=[Middleware(BackgroundTasksMiddleware)])
    assert get(Starlette(routes=[route])) == "body"
    assert log == ["task"]


def test_a_websocket_runs_its_tasks_when_it_ends() -> None:
    log: list[str] = []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        add_task(log.append, "task")
        await socket.send_text("hello")
        await socket.close()
        log.append("closed")

    app = Starlette(
        routes=[WebSocketRoute("/", endpoint)],
        middleware=[Middleware(BackgroundTasksMiddleware)],
    )
    websocket(app)
    assert sorted(log) == ["closed", "task"]


def test_a_websocket_that_ends_with_the_disconnect_runs_its_tasks() -> None:
    """The usual end of an endpoint that receives in a loop."""
    log: list[str] = []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        add_task(log.append, "task")
        while True:
            await socket.receive_text()

    app = Starlette(
        routes=[WebSocketRoute("/", endpoint)],
        middleware=[Middleware(BackgroundTasksMiddleware)],
    )
    with pytest.raises(WebSocketDisconnect):
        websocket(app, "hello", leaves=True)
    bgadapters.drain()
    assert log == ["task"]


def test_a_wrong_setting_is_refused_when_the_application_is_built() -> None:
    app = starlette(None, middleware=[Middleware(BackgroundTasksMiddleware, max_workers=0)])
    with pytest.raises(SettingsError, match="max_workers accepts a whole number from 1, not 0"):
        TestClient(app).get("/")


def test_tasks_finish_before_the_exit_code_of_the_lifespan() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        log.append("resources closed")

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        async def endpoint(request: Request) -> Response:
            add_task(task)
            return PlainTextResponse("body")

        app = starlette(endpoint, lifespan=lifespan)
        protocol = Lifespan(app)
        await protocol.startup()
        request = asyncio.ensure_future(Client().request(app))
        await running.wait()
        shutdown = asyncio.ensure_future(protocol.shutdown())
        await others_wait()
        gate.set()
        await shutdown
        await request

    asyncio.run(main())
    assert log == ["task", "resources closed"]
