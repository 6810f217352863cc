"""Every kind of response is whole before its tasks start, and runs them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi import Response as FastAPIResponse
from fastapi.exceptions import FastAPIError
from fastapi.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.testclient import TestClient

import bgadapters
from bgadapters.fastapi import BackgroundTasks
from tests.gateways.asgi_calls import noting


def test_async_tasks_run_on_the_servers_own_loop() -> None:
    app, loops = FastAPI(), list[object]()

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        loops.append(asyncio.get_running_loop())
        tasks.add_task(note)

    TestClient(app).get("/")
    assert loops[0] is loops[1]


def test_every_kind_of_response_is_whole_and_runs_its_tasks(tmp_path: Path) -> None:
    app, log = FastAPI(), list[str]()
    file = tmp_path / "file.txt"
    file.write_text("body")

    async def stream() -> AsyncIterator[str]:
        yield "bo"
        yield "dy"

    responses: dict[str, Any] = {
        "json": lambda: "body",
        "response": lambda: PlainTextResponse("body"),
        "file": lambda: FileResponse(file),
        "stream": lambda: StreamingResponse(stream()),
        "redirect": lambda: RedirectResponse("/json"),
        "empty": lambda: FastAPIResponse(status_code=204),
        "not-modified": lambda: FastAPIResponse(status_code=304),
        "error": lambda: JSONResponse("body", status_code=500),
    }

    @app.api_route("/{kind}", methods=["GET", "HEAD"])
    async def view(kind: str, tasks: BackgroundTasks) -> Any:
        tasks.add_task(log.append, f"task of {kind}")
        return responses[kind]()

    expected = {
        "json": (200, '"body"'),
        "response": (200, "body"),
        "file": (200, "body"),
        "stream": (200, "body"),
        "redirect": (307, ""),
        "empty": (204, ""),
        "not-modified": (304, ""),
        "error": (500, '"body"'),
    }
    client = TestClient(app, follow_redirects=False)
    got = {}
    for kind in responses:
        answer = client.get(f"/{kind}")
        got[kind] = answer.status_code, answer.text
        assert log == [f"task of {kind}"]
        assert client.head(f"/{kind}").status_code == expected[kind][0]
        assert log == [f"task of {kind}"] * 2
        log.clear()
    assert got == expected


def test_a_stream_is_sent_before_its_tasks_start() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            tasks.add_task(log.append, "added by the stream")
            yield b"dy"

        tasks.add_task(log.append, "task")
        return StreamingResponse(stream())

    assert asyncio.run(noting(log).request(app)).body == b"body"
    assert log == ["sent", "task", "added by the stream"]


def test_an_endpoint_that_yields_runs_its_tasks() -> None:
    """A generator endpoint streams; what it adds half way runs too."""
    app, log = FastAPI(), list[str]()

    async def view(tasks: BackgroundTasks) -> AsyncIterator[bytes]:
        tasks.add_task(log.append, "task")
        yield b"body"

    try:
        app.get("/", response_class=StreamingResponse)(view)
    except FastAPIError:
        pytest.skip("this FastAPI is too old for endpoints that yield")
    assert TestClient(app).get("/").text == "body"
    assert log == ["task"]


def test_a_full_backlog_holds_a_response_back_until_there_is_room() -> None:
    """Without set-up, responses share the 1000 places of the default runtime."""
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        gate, running = asyncio.Event(), asyncio.Event()

        async def blocking() -> None:
            running.set()
            await gate.wait()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(log.append, "task")
            asyncio.get_running_loop().call_soon(gate.set)

        with bgadapters.BackgroundTasks() as filling:
            filling.add_task(blocking)
            for _ in range(998):
                filling.add_task(int)
            filling.add_task(log.append, "room")
        await running.wait()
        await noting(log).request(app)

    asyncio.run(main())
    assert log == ["room", "sent", "task"]
