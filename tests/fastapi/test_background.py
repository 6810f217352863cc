"""A ``background`` of the response's own, FastAPI's own tasks, and our queue in their place."""

from fastapi import FastAPI
from fastapi import Response as FastAPIResponse
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks

import bgadapters
from bgadapters.fastapi import BackgroundTasks


def test_a_returned_response_with_its_own_background_loses_nothing() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/task")
    async def with_task(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "ours")
        return PlainTextResponse("body", background=BackgroundTask(log.append, "own"))

    @app.get("/tasks")
    async def with_tasks(tasks: BackgroundTasks) -> FastAPIResponse:
        own = StarletteBackgroundTasks()
        own.add_task(log.append, "own")
        tasks.add_task(log.append, "ours")
        return PlainTextResponse("body", background=own)

    client = TestClient(app)
    assert client.get("/task").text == "body"
    assert sorted(log) == ["ours", "own"]
    log.clear()
    assert client.get("/tasks").text == "body"
    assert sorted(log) == ["ours", "own"]


def test_fastapis_own_background_tasks_run_beside_ours() -> None:
    import fastapi

    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(own: fastapi.BackgroundTasks, tasks: BackgroundTasks) -> None:
        own.add_task(log.append, "own")
        tasks.add_task(log.append, "ours")

    TestClient(app).get("/")
    assert log == ["own", "ours"]


def test_a_queue_made_by_the_view_is_a_valid_background() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/core")
    async def core() -> FastAPIResponse:
        made = bgadapters.BackgroundTasks()
        made.add_task(log.append, "core")
        return PlainTextResponse("body", background=made)  # type: ignore[arg-type,unused-ignore]

    @app.get("/alias")
    async def alias() -> FastAPIResponse:
        made = BackgroundTasks()  # pyright: ignore[reportCallIssue]
        made.add_task(log.append, "alias")
        return PlainTextResponse("body", background=made)  # type: ignore[arg-type,unused-ignore]

    client = TestClient(app)
    client.get("/core")
    client.get("/alias")
    assert log == ["core", "alias"]


def test_the_queue_given_back_as_background_runs_its_tasks_once() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "task")
        return PlainTextResponse("body", background=tasks)  # type: ignore[arg-type,unused-ignore]

    assert TestClient(app).get("/").text == "body"
    assert log == ["task"]
