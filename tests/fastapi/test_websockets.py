"""WebSocket endpoints: there is no response to wait for, so tasks start as they are added."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient

import bgadapters
from bgadapters import QueueClosedError, add_task
from bgadapters.adapters import current_queue
from bgadapters.fastapi import BackgroundTasks
from tests.gateways.asgi_calls import websocket


def test_tasks_run_while_the_connection_lasts(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        for _ in range(2):
            ran = asyncio.Event()

            async def task(text: str, ran: asyncio.Event = ran) -> None:
                log.append(text)
                ran.set()

            tasks.add_task(task, await socket.receive_text())
            await ran.wait()
            await socket.send_text("ran")

    with TestClient(app) as client, client.websocket_connect("/") as socket:
        for text in ("one", "two"):
            socket.send_text(text)
            assert socket.receive_text() == "ran"
            assert log[-1] == text


def test_tasks_run_in_the_order_added_from_wherever_below_the_endpoint(app: FastAPI) -> None:
    log: list[str] = []

    def first(tasks: BackgroundTasks) -> None:  # in a thread
        tasks.add_task(log.append, "from a dependency")

    async def second(tasks: BackgroundTasks) -> AsyncIterator[None]:
        tasks.add_task(log.append, "from another one")
        yield
        tasks.add_task(log.append, "from its exit code")

    async def async_task() -> None:
        await asyncio.sleep(0)
        log.append("async task")

    @app.websocket("/", dependencies=[Depends(first), Depends(second)])
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        tasks.add_task(async_task)
        add_task(log.append, "from below")
        await socket.close()

    websocket(app)
    assert log == [
        "from a dependency",
        "from another one",
        "async task",
        "from below",
        "from its exit code",
    ]


def test_an_endpoint_that_raises_discards_nothing(app: FastAPI) -> None:
    """What it added before was handed over then."""
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        tasks.add_task(log.append, "task")
        raise ValueError("failed")

    with pytest.raises(ValueError, match="failed"):
        websocket(app)
    bgadapters.drain()
    assert log == ["task"]


def test_an_endpoint_that_handles_the_disconnect_may_add_tasks(app: FastAPI) -> None:
    log: list[str] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        await socket.accept()
        try:
            await socket.receive_text()
        except WebSocketDisconnect:
            tasks.add_task(log.append, "task")

    websocket(app, leaves=True)
    assert log == ["task"]


@pytest.mark.parametrize(
    "how", ["bare", "in a task group", "in groups of groups", "receives again"]
)
def test_a_client_that_leaves_discards_nothing(app: FastAPI, how: str) -> None:
    """However the endpoint ends: each is a usual end of one that receives in a loop."""
    log: list[str] = []

    async def receive(socket: WebSocket) -> None:
        while True:
            await socket.receive_text()

    @app.websocket("/")
    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        current_queue().add_task(log.append, "task")
        if how == "bare":
            await receive(socket)
        elif how == "receives again":
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
            await socket.receive()  # a RuntimeError of Starlette's
        elif how == "in a task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(receive(socket))
        else:
            async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as group:
                outer.create_task(asyncio.sleep(0))
                group.create_task(receive(socket))

    if not app.user_middleware:  # somebody has to open a queue

        @app.websocket("/asks")
        async def asking(socket: WebSocket, tasks: BackgroundTasks) -> None:
            await endpoint(socket)

    path = "/" if app.user_middleware else "/asks"
    with pytest.raises((WebSocketDisconnect, ExceptionGroup, RuntimeError)):
        websocket(app, "hello", leaves=True, path=path)
    bgadapters.drain()
    assert log == ["task"]


def test_after_its_end_no_task_can_be_added(app: FastAPI) -> None:
    kept: list[bgadapters.BackgroundTasks] = []

    @app.websocket("/")
    async def endpoint(socket: WebSocket, tasks: BackgroundTasks) -> None:
        kept.append(tasks)
        await socket.accept()

    websocket(app)
    with pytest.raises(QueueClosedError):
        kept[0].add_task(print)
