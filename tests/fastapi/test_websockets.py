"""WebSocket endpoints: the queue is released when the endpoint has ended."""

from collections.abc import AsyncIterator

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect

import bgadapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks
from tests.gateways.asgi_calls import websocket


def test_tasks_run_after_the_endpoint_and_the_commit(app: FastAPI) -> None:
    log: list[str] = []

    async def session(tasks: BackgroundTasks) -> AsyncIterator[None]:
        tasks.add_task(log.append, "from the dependency")
        yield
        log.append("commit")

    @app.websocket("/")
    async def endpoint(
        socket: WebSocket, tasks: BackgroundTasks, _: None = Depends(session)
    ) -> None:
        await socket.accept()
        tasks.add_task(log.append, "task")
        add_task(log.append, "from below")
        await socket.send_text("hello")
        await socket.close()
        log.append("closed")

    received = websocket(app)
    assert [message["type"].removeprefix("websocket.") for message in received] == [
        "accept",
        "send",
        "close",
    ]
    assert log == ["closed", "commit", "from the dependency", "task", "from below"]


def test_an_endpoint_that_raises_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        tasks.add_task(log.append, "discarded")
        tasks.options(always=True).add_task(log.append, "always")
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        websocket(app)
    bgadapters.drain()
    assert log == ["always"]


def test_an_endpoint_that_handles_the_disconnect_runs_its_tasks(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        tasks.add_task(log.append, "task")
        try:
            await socket.receive_text()
        except WebSocketDisconnect:
            log.append("disconnected")

    websocket(app, leaves=True)
    assert log == ["disconnected", "task"]


def test_an_endpoint_that_ends_with_the_disconnect_runs_its_tasks(app: FastAPI) -> None:
    """The usual end of an endpoint that receives in a loop."""
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        tasks.add_task(log.append, "task")
        while True:
            await socket.receive_text()

    with pytest.raises(WebSocketDisconnect):
        websocket(app, "hello", leaves=True)
    bgadapters.drain()
    assert log == ["task"]
