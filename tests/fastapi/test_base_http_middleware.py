"""Under ``BaseHTTPMiddleware``, which runs the application in a task group of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from fastapi.testclient import TestClient

import bgadapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways.asgi_calls import Client, noting, others_wait
from tests.starlette.apps import Passing

Next = Callable[[Request], Awaitable[Response]]


@pytest.fixture(params=["by itself", "init_app below", "init_app above"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application under such a middleware, with ``init_app`` on either side of it."""
    made = FastAPI()
    if request.param == "init_app below":
        init_app(made)
    made.add_middleware(Passing)
    if request.param == "init_app above":
        init_app(made)
    return made


def test_tasks_run_after_the_response_and_the_commit(app: FastAPI) -> None:
    log: list[str] = []

    async def session() -> AsyncIterator[None]:
        yield
        log.append("commit")

    async def async_task() -> None:
        log.append("async task")

    @app.get("/", dependencies=[Depends(session)])
    async def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "sync task")
        tasks.add_task(async_task)
        add_task(log.append, "last task")
        return "body"

    async def main() -> None:
        client = noting(log)
        await client.request(app)
        assert client.body == b'"body"'

    asyncio.run(main())
    tasks = ["sync task", "async task", "last task"]
    assert log in (["sent", "commit", *tasks], ["commit", "sent", *tasks])


def test_a_stream_runs_its_tasks(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            yield b"dy"

        tasks.add_task(log.append, "task")
        return StreamingResponse(stream())

    assert TestClient(app).get("/").text == "body"
    assert log == ["task"]


@pytest.mark.parametrize("error", [HTTPException(409), ValueError("failed")])
def test_an_exception_of_the_view_discards(app: FastAPI, error: Exception) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "discarded")
        tasks.options(always=True).add_task(log.append, "always")
        raise error

    TestClient(app, raise_server_exceptions=False).get("/")
    bgadapters.drain()
    assert log == ["always"]


def test_a_failing_task_changes_nothing_for_the_response_and_the_other_tasks(app: FastAPI) -> None:
    log: list[str] = []

    def fail() -> None:
        raise ValueError

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        tasks.add_task(log.append, "next")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["next"]


def test_a_client_that_leaves_while_a_task_runs_cancels_nothing(app: FastAPI) -> None:
    log: list[str] = []

    async def main() -> None:
        gate, client = asyncio.Event(), Client()

        async def task() -> None:
            client.left.set()
            await gate.wait()
            log.append("finished")

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> str:
            tasks.add_task(task)
            tasks.add_task(log.append, "next")
            return "body"

        call = asyncio.ensure_future(client.request(app))
        await client.left.wait()
        await others_wait()
        gate.set()
        await call
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["finished", "next"]


def test_a_middleware_that_answers_something_else_runs_the_views_tasks() -> None:
    """The view had returned its response; that it was replaced is no failure."""
    app, log = FastAPI(), list[str]()

    @app.middleware("http")
    async def replace(request: Request, call_next: Next) -> Response:
        await call_next(request)
        return PlainTextResponse("replaced")

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "task")
        return "body"

    assert TestClient(app).get("/").text == "replaced"
    bgadapters.drain()
    assert log == ["task"]


def test_a_middleware_may_add_tasks_below_init_app() -> None:
    app, log = FastAPI(), list[str]()

    @app.middleware("http")
    async def adding(request: Request, call_next: Next) -> Response:
        add_task(log.append, "before")
        response = await call_next(request)
        add_task(log.append, "after")
        return response

    init_app(app)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "view")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["before", "view", "after"]


def test_several_middlewares_of_the_kind_are_no_hindrance() -> None:
    app, log = FastAPI(), list[Any]()
    for _ in range(3):
        app.add_middleware(Passing)

    @app.get("/")
    def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "task")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["task"]
