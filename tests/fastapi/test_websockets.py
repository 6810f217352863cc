"""WebSocket endpoints: the queue is released when the endpoint has ended."""

from collections.abc import AsyncIterator

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient

import bgadapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks, init_app


@pytest.fixture(params=["by itself", "with init_app"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application, with and without set-up."""
    made = FastAPI()
    if request.param == "with init_app":
        init_app(made)
    return made


def test_tasks_run_after_the_endpoint_and_the_commit(app: FastAPI) -> None:
    log: list[str] = []

    async def session(tasks: BackgroundTasks) -> AsyncIterator[None]:
        tasks.add_task(log.append, "from the dependency")
        yield
        log.append("commit")

    @app.websocket("/")
    async def endpoint(
        websocket: WebSocket, tasks: BackgroundTasks, _: None = Depends(session)
    ) -> None:
        await websocket.accept()
        tasks.add_task(log.append, "task")
        add_task(log.append, "from below")
        await websocket.send_text("hello")
        await websocket.close()
        log.append("closed")

    with TestClient(app).websocket_connect("/") as websocket:
        assert websocket.receive_text() == "hello"
    assert log == ["closed", "commit", "from the dependency", "task", "from below"]


def test_an_endpoint_that_raises_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        await websocket.accept()
        tasks.add_task(log.append, "discarded")
        tasks.options(always=True).add_task(log.append, "always")
        raise ValueError("failed")

    def connect() -> None:
        with TestClient(app).websocket_connect("/"):
            pass

    with pytest.raises(ValueError, match="failed"):
        connect()
    bgadapters.drain()
    assert log == ["always"]


def test_an_endpoint_that_handles_the_disconnect_runs_its_tasks(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        await websocket.accept()
        tasks.add_task(log.append, "task")
        try:
            await websocket.receive_text()
        except WebSocketDisconnect:
            log.append("disconnected")

    with TestClient(app).websocket_connect("/"):
        pass
    assert log == ["disconnected", "task"]


def test_an_endpoint_that_ends_with_the_disconnect_runs_its_tasks(app: FastAPI) -> None:
    """The usual end of an endpoint that receives in a loop."""
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(websocket: WebSocket, tasks: BackgroundTasks) -> None:
        await websocket.accept()
        tasks.add_task(log.append, "task")
        while True:
            await websocket.receive_text()

    def connect() -> None:
        with TestClient(app).websocket_connect("/") as websocket:
            websocket.send_text("hello")

    with pytest.raises(WebSocketDisconnect):
        connect()
    bgadapters.drain()
    assert log == ["task"]
