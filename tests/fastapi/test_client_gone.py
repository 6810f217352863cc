"""A client that leaves, and a request that is cancelled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi import Response as FastAPIResponse
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

import bgadapters
from bgadapters import ResponseOutcome, current_task
from bgadapters.adapters import default_runtime
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways.asgi_calls import Client, http_scope
from tests.views import add_both


def test_a_client_that_left_while_the_response_was_sent_cancels_no_task() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            yield b"dy"

        tasks.add_task(log.append, "task")
        return StreamingResponse(stream())

    def leave(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    async def main() -> None:
        with pytest.raises(ClientDisconnect):
            await Client(on_send=leave).request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_client_that_left_when_its_response_had_waited_for_room_cancels_no_task() -> None:
    app, log, turns = FastAPI(), list[str](), 20
    in_flight = default_runtime().in_flight
    limit = default_runtime().settings.max_pending

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")
        in_flight.reserve(limit)  # as if others had filled it
        loop = asyncio.get_running_loop()

        def give_room(after: int) -> None:
            if after:
                loop.call_soon(give_room, after - 1)
            else:
                log.append("room")
                in_flight.free(limit)

        give_room(turns)

    def leave(message: Any) -> None:
        if message["type"] == "http.response.start":
            log.append("response")
            raise ConnectionResetError

    async def main() -> None:
        with suppress(OSError):  # a server expects it
            await Client(on_send=leave).request(app, http_scope(spec_version="2.4"))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["room", "response", "task"]


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
def test_tasks_are_told_that_the_client_left_during_a_stream(spec_version: str) -> None:
    """Servers tell it in ``receive``, and those of ASGI 2.4 and later in ``send``."""
    app, seen = FastAPI(), list[ResponseOutcome | None]()
    init_app(app)

    def note() -> None:
        task = current_task()
        assert task is not None
        seen.append(task.response)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"part"
            if spec_version == "2.3":
                await asyncio.Event().wait()
            yield b"another"

        tasks.add_task(note)
        return StreamingResponse(stream())

    def leave(message: Any) -> None:
        if client.left.is_set():
            raise ConnectionResetError
        if message.get("body"):
            client.left.set()

    async def main() -> None:
        with suppress(ClientDisconnect):  # a server expects it
            await client.request(app, http_scope(spec_version=spec_version))
        await bgadapters.adrain()

    client = Client(on_send=leave)
    asyncio.run(main())
    assert seen == [ResponseOutcome(200, None, True)]


def test_a_client_that_left_before_a_plain_response_cancels_no_task() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")

    def leave(message: Any) -> None:
        raise ConnectionResetError

    async def main() -> None:
        with pytest.raises(ConnectionResetError):
            await Client(on_send=leave).request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_request_cancelled_while_it_is_answered_runs_its_tasks() -> None:
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        started = asyncio.Event()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> FastAPIResponse:
            async def stream() -> AsyncIterator[bytes]:
                yield b"bo"
                started.set()
                await asyncio.Event().wait()

            tasks.add_task(log.append, "task")
            return StreamingResponse(stream())

        call = asyncio.ensure_future(Client().request(app))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_request_cancelled_before_its_view_returns_discards_its_tasks() -> None:
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        started = asyncio.Event()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(log.append, "discarded")
            tasks.options(always=True).add_task(log.append, "always")
            started.set()
            await asyncio.Event().wait()

        call = asyncio.ensure_future(Client().request(app, http_scope()))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_a_view_whose_client_left_before_it_had_read_the_request_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(request: Request, tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        async for _ in request.stream():
            pass

    async def main() -> None:
        async def leave() -> Any:
            return {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnect):
            await app(http_scope(), leave, Client().send)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]
