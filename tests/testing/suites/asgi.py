"""A suite for FastAPI and Starlette; coroutines run with whichever plugin there is."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

import bgadapters
from bgadapters.asgi import BackgroundTasksMiddleware
from bgadapters.fastapi import BackgroundTasks, init_app
from bgadapters.testing import Recorder, capture_tasks

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def note(what: object) -> None:
    ran.append(what)


async def anote(what: object) -> None:
    await asyncio.sleep(0.01)
    ran.append(what)


def fail() -> None:
    raise ValueError("of a task")


app = FastAPI()


@app.get("/tasks/{count}")
def tasks(background_tasks: BackgroundTasks, count: int) -> None:
    for number in range(count):
        background_tasks.add_task(note, number)
        background_tasks.add_task(anote, f"async {number}")


@app.get("/stream")
async def stream(background_tasks: BackgroundTasks) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        background_tasks.add_task(anote, "streamed")

    return StreamingResponse(body())


@app.get("/fail")
async def failing(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(fail)


@app.get("/fail/http")
async def raising(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(note, "never")
    raise RuntimeError("of the view")


async def background(request: Any) -> PlainTextResponse:
    queue = bgadapters.BackgroundTasks()
    queue.add_task(anote, "background")
    return PlainTextResponse("ok", background=queue)  # type: ignore[arg-type]


async def inner(request: Any) -> PlainTextResponse:
    bgadapters.add_task(note, "inner")
    return PlainTextResponse("ok")


starlette = Starlette(routes=[Route("/background", background), Route("/inner", inner)])
nested = BackgroundTasksMiddleware(BackgroundTasksMiddleware(starlette))
TWO = [0, "async 0", 1, "async 1"]


def http(of: Any = app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(of), base_url="http://test")


def test_the_client_returns_when_tasks_have_run(background_tasks: Recorder) -> None:
    client = TestClient(app)
    assert client.get("/tasks/2").status_code == 200
    assert ran == TWO
    assert [(task.path, task.outcome) for task in background_tasks.tasks] == [
        ("/tasks/2", "succeeded")
    ] * 4
    assert client.get("/stream").text == "first"
    assert ran == [*TWO, "streamed"]


def test_a_client_with_a_lifespan_does_too() -> None:
    configured = FastAPI()
    init_app(configured)
    configured.get("/tasks/{count}")(tasks)
    with TestClient(configured) as client:
        client.get("/tasks/2")
        assert ran == TWO


def test_so_does_each_client_of_what_waits_for_no_task() -> None:
    """With a lifespan and without one, in its order."""
    configured = FastAPI()
    init_app(configured, await_tasks=False)
    configured.get("/tasks/{count}")(tasks)
    TestClient(configured).get("/tasks/2")
    assert ran == TWO
    with TestClient(configured) as client:
        client.get("/tasks/2")
        assert ran == TWO * 2
    TestClient(configured).get("/tasks/2")
    assert ran == TWO * 3


async def test_so_does_a_coroutine() -> None:
    configured = FastAPI()
    init_app(configured, await_tasks=False)
    configured.get("/tasks/{count}")(tasks)
    async with http(configured) as client:
        await client.get("/tasks/2")
    assert ran == TWO


def test_so_do_those_of_starlette() -> None:
    TestClient(starlette).get("/background")
    TestClient(nested).get("/inner")
    assert ran == ["background", "inner"]


def test_fails_with_the_task() -> None:
    assert TestClient(app).get("/fail").status_code == 200


def test_discarded_tasks_are_recorded(background_tasks: Recorder) -> None:
    with pytest.raises(RuntimeError, match="of the view"):
        TestClient(app).get("/fail/http")
    task = background_tasks.assert_added_once(note, "never")
    assert (task.outcome, repr(task.exception)) == ("discarded", "RuntimeError('of the view')")


@pytest.mark.background_tasks("capture")
def test_captured_tasks_hold_up_no_response(background_tasks: Recorder) -> None:
    client = TestClient(app)
    client.get("/tasks/2")
    client.get("/stream")
    TestClient(starlette).get("/background")
    TestClient(nested).get("/inner")
    assert ran == []
    assert background_tasks.run_pending() == 7
    assert ran == [*TWO, "streamed", "background", "inner"]


async def test_a_coroutine_sees_that_tasks_have_run() -> None:
    async with http() as client:
        await client.get("/tasks/2")
        assert ran == TWO
        await client.get("/stream")
        assert ran == [*TWO, "streamed"]


async def test_fails_with_the_task_of_a_coroutine() -> None:
    async with http() as client:
        await client.get("/fail")


async def test_a_coroutine_runs_captured_tasks() -> None:
    with capture_tasks() as captured:
        async with http() as client:
            await client.get("/tasks/2")
    assert ran == []
    assert await captured.arun_pending(lambda task: task.func is anote) == 2
    assert await captured.arun_pending() == 2
    assert ran == ["async 0", "async 1", 0, 1]


async def test_fails_though_the_coroutine_did_not_wait() -> None:
    async def late() -> None:
        await asyncio.sleep(0.05)
        fail()

    queue = bgadapters.BackgroundTasks()
    queue.add_task(late)
    queue.release()


@contextlib.contextmanager
def served() -> Iterator[str]:
    """A server in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_fails_with_the_task_of_a_server_in_a_thread() -> None:
    with served() as address:
        assert httpx.get(f"{address}/fail").status_code == 200
