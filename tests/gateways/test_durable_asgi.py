"""ASGI: durable tasks are kept before the client can know that they were accepted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import bgadapters
from bgadapters import StoreUnavailableError
from bgadapters.adapters import current_queue
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE
from tests.gateways.asgi_calls import Client, http_scope

HERE = ["tests.core.durable_tasks"]
START: Any = {"type": "http.response.start", "status": 202, "headers": []}

App = Callable[[Any, Any, Any], Awaitable[None]]


def add(what: object) -> None:
    current_queue().options(durable=True).add_task(durable_tasks.note, what)


def body(text: bytes, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": text, "more_body": more}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def serve(store: MemoryStore) -> Iterator[Callable[..., Client]]:
    """Serve one request; return what its client has received."""
    durable_tasks.happened.clear()
    made: list[BackgroundTasksMiddleware] = []

    def serve(
        app: App, client: Client | None = None, method: str = "GET", **settings: Any
    ) -> Client:
        client = client or Client()
        middleware = BackgroundTasksMiddleware(app, store=store, task_modules=HERE, **settings)
        made.append(middleware)

        async def main() -> None:
            scope = http_scope(method=method)
            await asyncio.wait_for(middleware(scope, client.receive, client.send), PATIENCE)
            assert await middleware.runtime.adrain(PATIENCE) == []

        asyncio.run(main())
        return client

    yield serve
    store.on_call = lambda name: None
    for each in made:
        each.runtime.close()


Serve = Callable[..., Client]


def is_away(store: MemoryStore) -> None:
    def on_call(name: str) -> None:
        if name == "write":
            raise StoreUnavailableError("it is away")

    store.on_call = on_call


def rows_at(store: MemoryStore, seen: list[Any]) -> Callable[[Any], None]:
    """Note with each message how many rows there are when it is sent."""

    def on_send(message: Any) -> None:
        seen.append((message["type"].rpartition(".")[2], len(store.database.ids())))

    return on_send


async def plain(scope: Any, receive: Any, send: Any) -> None:
    add(1)
    add(2)
    await send(START)
    await send(body(b"done"))


async def streams(scope: Any, receive: Any, send: Any) -> None:
    add(1)
    await send(START)
    await send(body(b"part", more=True))
    add(2)
    await send(body(b"", more=False))


@pytest.mark.parametrize("hold_response", [False, True])
def test_kept_before_the_first_byte(serve: Serve, store: MemoryStore, hold_response: bool) -> None:
    seen: list[Any] = []
    serve(plain, Client(on_send=rows_at(store, seen)), hold_response=hold_response)
    assert seen[0] == ("start", 2)
    assert store.calls[0] == "open"
    assert ("write", [f"{durable_tasks.__name__}.note"] * 2, []) in store.calls
    assert (durable_tasks.happened, store.database.ids()) == ([1, 2], [])


@pytest.mark.parametrize("hold_response", [False, True])
def test_what_a_body_adds_is_kept_before_its_last_byte(
    serve: Serve, store: MemoryStore, hold_response: bool
) -> None:
    writes: list[Any] = []

    def on_send(message: Any) -> None:
        kept = sum(len(call[1]) for call in store.calls if call[0] == "write")
        writes.append((message.get("body"), kept))

    serve(streams, Client(on_send=on_send), hold_response=hold_response)
    assert writes == [(None, 1), (b"part", 1), (b"", 2)]
    assert durable_tasks.happened == [1, 2]


@pytest.mark.parametrize("hold_response", [False, True])
def test_what_is_flushed_is_kept_without_anybody_waiting(
    serve: Serve, store: MemoryStore, hold_response: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"part", more=True))
        add(1)
        bgadapters.flush()
        await send(body(b"", more=False))

    serve(app, hold_response=hold_response)
    assert durable_tasks.happened == [1]
    assert sum(len(call[1]) for call in store.calls if call[0] == "write") == 1


@pytest.mark.parametrize("hold_response", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_store_that_is_away_is_503(
    serve: Serve,
    store: MemoryStore,
    caplog: pytest.LogCaptureFixture,
    hold_response: bool,
    method: str,
) -> None:
    is_away(store)
    client = serve(plain, method=method, hold_response=hold_response)
    start, *parts = client.messages
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"10"
    assert b"".join(each["body"] for each in parts) == b"Service Unavailable"
    assert durable_tasks.happened == []
    assert (
        "2 background task(s) discarded, the response failed with StoreUnavailable" in caplog.text
    )
    assert "The response to / is refused" in caplog.text


@pytest.mark.parametrize("hold_response", [False, True])
def test_a_stream_that_has_begun_is_broken_off(
    serve: Serve, store: MemoryStore, hold_response: bool
) -> None:
    def on_call(name: str) -> None:
        if name == "write" and store.calls[-1][1] and durable_tasks.began.is_set():
            raise StoreUnavailableError("it is away")

    durable_tasks.began.clear()
    store.on_call = on_call

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add(1)
        await send(START)
        await send(body(b"part", more=True))
        durable_tasks.began.set()
        add(2)
        await send(body(b"", more=False))

    client = Client()
    with pytest.raises(StoreUnavailableError):
        serve(app, client, hold_response=hold_response)
    assert [each.get("body") for each in client.messages] == [None, b"part"]


def test_a_framework_that_answers_everything_says_503(serve: Serve, store: MemoryStore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await plain(scope, receive, send)
        except Exception:
            await send({**START, "status": 500})
            await send(body(b"sorry"))

    is_away(store)
    client = serve(app)
    assert [each.get("status", each.get("body")) for each in client.messages] == [503, b"sorry"]
    assert durable_tasks.happened == []


def test_a_handler_may_say_what_it_likes(serve: Serve, store: MemoryStore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await plain(scope, receive, send)
        except StoreUnavailableError:
            bgadapters.add_task(durable_tasks.note, "of the handler")
            await send({**START, "status": 429})
            await send(body(b"later"))

    is_away(store)
    client = serve(app)
    assert client.messages[0]["status"] == 429
    assert durable_tasks.happened == ["of the handler"]


def test_an_error_that_hides_it_is_answered_too(serve: Serve, store: MemoryStore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await plain(scope, receive, send)
        except StoreUnavailableError as exc:
            raise RuntimeError("of a middleware") from exc

    is_away(store)
    assert serve(app).messages[0]["status"] == 503


def test_a_call_that_is_cancelled_meanwhile_has_its_tasks_run(
    store: MemoryStore,
) -> None:
    durable_tasks.happened.clear()
    begun, goes_on = threading.Event(), threading.Event()

    def on_call(name: str) -> None:
        if name == "write":
            begun.set()
            goes_on.wait(PATIENCE)

    store.on_call = on_call
    middleware = BackgroundTasksMiddleware(plain, store=store, task_modules=HERE)

    async def main() -> None:
        client = Client()
        call = asyncio.ensure_future(middleware(http_scope(), client.receive, client.send))
        while not begun.is_set():
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        goes_on.set()
        assert await middleware.runtime.adrain(PATIENCE) == []
        assert client.messages == []

    asyncio.run(main())
    assert (durable_tasks.happened, store.database.ids()) == ([1, 2], [])
    middleware.runtime.close()


def test_a_lifespan_without_its_store_fails(store: MemoryStore) -> None:
    def on_call(name: str) -> None:
        raise StoreUnavailableError("it is away")

    store.on_call = on_call
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        told.append("the application starts")

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    middleware = BackgroundTasksMiddleware(app, store=store)
    with pytest.raises(StoreUnavailableError):
        asyncio.run(middleware({"type": "lifespan"}, receive, send))
    assert told == [
        {"type": "lifespan.startup.failed", "message": "it is away"},
    ]
    store.on_call = lambda name: None
    middleware.runtime.close()


def test_a_lifespan_opens_its_store(store: MemoryStore) -> None:
    messages = iter(["startup", "shutdown"])
    told: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        told.extend(store.calls[:1])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def receive() -> Any:
        return {"type": f"lifespan.{next(messages)}"}

    async def send(message: Any) -> None: ...

    middleware = BackgroundTasksMiddleware(app, store=store)
    asyncio.run(middleware({"type": "lifespan"}, receive, send))
    assert told == ["open"]
    middleware.runtime.close()


def test_on_a_websocket_each_is_kept_as_it_is_added(serve: Serve, store: MemoryStore) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        add(1)

    durable_tasks.happened.clear()
    middleware = BackgroundTasksMiddleware(app, store=store, task_modules=HERE)

    async def main() -> None:
        client = Client()
        await middleware({"type": "websocket", "path": "/"}, client.receive, client.send)
        assert await middleware.runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    assert durable_tasks.happened == [1]
    written = [call[1] for call in store.calls if call[0] == "write"]
    assert written[0] == [f"{durable_tasks.__name__}.note"]
    middleware.runtime.close()
