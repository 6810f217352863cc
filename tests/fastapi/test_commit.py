"""Tasks start after the exit code of the request's dependencies, hence after their commits."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi import Response as FastAPIResponse
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from bgadapters.fastapi import BackgroundTasks
from tests.gateways.asgi_calls import noting


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tasks_start_after_the_last_byte_and_the_commit(kind: str) -> None:
    app, log = FastAPI(), list[str]()

    def sync_session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    async def async_session() -> AsyncIterator[str]:
        yield "session"
        log.append("commit")

    session = sync_session if kind == "sync" else async_session

    @app.get("/")
    async def view(db: Annotated[str, Depends(session)], tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "task")
        return db

    asyncio.run(noting(log).request(app))
    assert log == ["sent", "commit", "task"]


@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("first", ["session", "queue"])
def test_tasks_start_after_the_commit_whichever_dependency_came_first(
    first: str, scope: Any
) -> None:
    app, log = FastAPI(), list[str]()

    def session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    Session = Annotated[str, Depends(session, scope=scope)]

    if first == "session":

        @app.get("/")
        async def session_first(db: Session, tasks: BackgroundTasks) -> None:  # pyright: ignore[reportInvalidTypeForm]
            tasks.add_task(log.append, "task")

    else:

        @app.get("/")
        async def queue_first(tasks: BackgroundTasks, db: Session) -> None:  # pyright: ignore[reportInvalidTypeForm]
            tasks.add_task(log.append, "task")

    TestClient(app).get("/")
    assert log == ["commit", "task"]


def test_a_dependency_that_itself_uses_the_queue_commits_before_the_tasks() -> None:
    app, log = FastAPI(), list[str]()

    def session(tasks: BackgroundTasks) -> Iterator[str]:
        tasks.add_task(log.append, "task")
        yield "session"
        log.append("commit")

    @app.get("/", dependencies=[Depends(session)])
    async def view() -> None: ...

    TestClient(app).get("/")
    assert log == ["commit", "task"]


def test_the_queue_given_back_as_background_still_waits_for_the_commit() -> None:
    app, log = FastAPI(), list[str]()

    def session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    @app.get("/", dependencies=[Depends(session)])
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "task")
        return PlainTextResponse("body", background=tasks)  # type: ignore[arg-type,unused-ignore]

    TestClient(app).get("/")
    assert log == ["commit", "task"]
