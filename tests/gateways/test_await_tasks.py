"""With ``await_tasks=False`` an ASGI call returns with its response; a shutdown waits for tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Unpack

import pytest
from litestar import Litestar, post
from litestar.testing import TestClient as LitestarClient
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

import bgadapters
from bgadapters import SettingsError, add_task
from bgadapters.adapters import Runtime, SettingNames, Settings
from bgadapters.asgi import BackgroundTasksMiddleware
from bgadapters.wsgi import BackgroundTasksMiddleware as WSGIMiddleware
from tests.gateways.asgi_calls import Client, Lifespan, http_scope, others_wait
from tests.our_log import OurLog

WAYS_OUT = (
    "uvicorn --lifespan on",
    "outermost application",
    "bgadapters.django.asgi",
    "with TestClient(app)",
    "leave await_tasks at True",
)


@pytest.fixture(autouse=True)
def _drained() -> Iterator[None]:
    yield
    assert bgadapters.drain(10) == []


class Held:
    """An async task that runs until it is let go, and what has become of it."""

    def __init__(self) -> None:
        self.began, self.gate = asyncio.Event(), asyncio.Event()
        self.log: list[Any] = []

    async def __call__(self) -> None:
        self.began.set()
        await self.gate.wait()
        self.log.append("async")


def application(*tasks: Callable[[], Any]) -> Any:
    """An application that leaves lifespan to the middleware, and adds these tasks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] != "lifespan"
        for task in tasks:
            add_task(task)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return app


def served(
    use: Callable[[BackgroundTasksMiddleware, Held], Awaitable[None]],
    **settings: Unpack[SettingNames],
) -> list[Any]:
    """Use an application between its startup and its shutdown; return what its task has noted."""

    given: SettingNames = {"await_tasks": False, **settings}

    async def main() -> list[Any]:
        held = Held()
        app = BackgroundTasksMiddleware(application(held), **given)
        lifespan = Lifespan(app)
        await lifespan.startup()
        await use(app, held)
        shutdown = asyncio.ensure_future(lifespan.shutdown())
        await others_wait()
        held.log.append("down" if shutdown.done() else "waits")
        held.gate.set()
        assert await shutdown == "lifespan.shutdown.complete"
        return held.log

    return asyncio.run(main())


def test_the_call_returns_with_its_response_and_the_shutdown_waits() -> None:
    async def use(app: Any, held: Held) -> None:
        assert (await Client().request(app)).body == b"ok"
        await held.began.wait()

    assert served(use) == ["waits", "async"]


def test_by_default_it_waits() -> None:
    async def use(app: Any, held: Held) -> None:
        request = asyncio.ensure_future(Client().request(app))
        await held.began.wait()
        assert not request.done()
        held.gate.set()
        await request

    assert served(use, await_tasks=True) == ["async", "down"]


def test_a_task_of_which_nobody_else_knows_is_kept() -> None:
    """asyncio itself refers to a task weakly."""

    async def use(app: Any, held: Held) -> None:
        await Client().request(app)
        await held.began.wait()
        gc.collect()

    assert served(use) == ["waits", "async"]


def test_a_client_that_leaves_cancels_nothing() -> None:
    async def use(app: Any, held: Held) -> None:
        def leave(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise OSError("the client has left")

        with pytest.raises(OSError, match="has left"):
            await Client(leave).request(app)
        await held.began.wait()

    assert served(use) == ["waits", "async"]


def test_tasks_run_on_the_loop_of_the_server() -> None:
    seen: list[bool] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def task() -> None:
            seen.append(asyncio.get_running_loop() is loop)

        app = BackgroundTasksMiddleware(application(task), await_tasks=False)
        lifespan = Lifespan(app)
        await lifespan.startup()
        await Client().request(app)
        await lifespan.shutdown()

    asyncio.run(main())
    assert seen == [True]


def test_a_full_backlog_holds_the_response_back() -> None:
    """The bound is kept: it is the client that brings work who waits."""

    async def use(app: Any, held: Held) -> None:
        await Client().request(app)
        await held.began.wait()
        request = asyncio.ensure_future(Client().request(app))
        await others_wait()
        assert not request.done()
        held.gate.set()
        await request

    assert sorted(served(use, max_pending=1)) == ["async", "async", "down"]


def test_after_a_shutdown_calls_wait_again() -> None:
    """The server has no further message by which to have tasks waited for."""

    async def use(app: Any, held: Held) -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await lifespan.shutdown()
        request = asyncio.ensure_future(Client().request(app))
        await held.began.wait()
        await others_wait()
        assert not request.done()
        held.gate.set()
        await request

    assert served(use) == ["async", "down"]


def test_a_socket_is_not_held_open_by_its_tasks() -> None:
    async def use(app: Any, held: Held) -> None:
        async def receive() -> Any:
            return {"type": "websocket.disconnect"}

        async def send(_: Any) -> None: ...

        scope = http_scope() | {"type": "websocket"}
        await BackgroundTasksMiddleware(application(held), runtime=app.runtime)(
            scope, receive, send
        )
        await held.began.wait()

    assert served(use) == ["waits", "async"]


def test_where_no_lifespan_was_begun_each_request_is_refused() -> None:
    """The first one, whether or not it adds a task: a deploy is to fail, not to lose tasks."""
    ran: list[str] = []
    app = BackgroundTasksMiddleware(application(lambda: ran.append("task")), await_tasks=False)
    with pytest.raises(SettingsError) as refused:
        asyncio.run(Client().request(app))
    for way in WAYS_OUT:
        assert way in str(refused.value)
    assert ran == []


def test_a_mounted_application_hears_of_no_lifespan() -> None:
    inner = BackgroundTasksMiddleware(application(), await_tasks=False)
    outer = Starlette(routes=[Mount("/inner", inner)])
    with TestClient(outer) as client, pytest.raises(SettingsError, match="outermost application"):
        client.get("/inner/")


def test_the_outermost_of_two_decides() -> None:
    async def use(app: Any, held: Held) -> None:
        outer = BackgroundTasksMiddleware(_Between(app), await_tasks=True)
        request = asyncio.ensure_future(Client().request(outer))
        await held.began.wait()
        assert not request.done()
        held.gate.set()
        await request

    assert served(use) == ["async", "down"]


class _Between:
    """A middleware between two of ours."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def test_a_drain_that_is_too_short_names_what_it_abandons(our_log: OurLog) -> None:
    async def use(app: Any, held: Held) -> None:
        await Client().request(app)
        await held.began.wait()

    assert served(use, drain_timeout=0) == ["down"]
    assert "1 background task(s) abandoned" in our_log.warnings[0]


ran: list[str] = []


async def slowly() -> None:
    await asyncio.sleep(0.01)
    ran.append("task")


async def starlette_view(_: Any) -> PlainTextResponse:
    add_task(slowly)
    return PlainTextResponse("ok")


@pytest.fixture
def _forgotten() -> None:
    ran.clear()


@pytest.mark.usefixtures("_forgotten")
def test_the_block_of_a_test_client_ends_with_a_drain() -> None:
    app = BackgroundTasksMiddleware(
        Starlette(routes=[Route("/", starlette_view)]), await_tasks=False
    )
    with TestClient(app) as client:
        assert client.get("/").text == "ok"
    assert ran == ["task"]


@pytest.mark.usefixtures("_forgotten")
def test_litestar() -> None:
    @post("/")
    async def view() -> None:
        add_task(slowly)

    app: Any = BackgroundTasksMiddleware(Litestar([view]), await_tasks=False)
    with LitestarClient(app) as client:
        assert client.post("/").status_code == 201
    assert ran == ["task"]


@pytest.mark.usefixtures("_forgotten")
def test_quart() -> None:
    app = Quart(__name__)
    outermost: Any = app
    outermost.asgi_app = BackgroundTasksMiddleware(app.asgi_app, await_tasks=False)

    @app.get("/")
    async def view() -> str:
        add_task(slowly)
        return "ok"

    async def main() -> None:
        with pytest.raises(SettingsError):
            await app.test_client().get("/")
        async with app.test_app() as running:
            await running.test_client().get("/")

    asyncio.run(main())
    assert ran == ["task"]


def test_under_wsgi_it_changes_nothing() -> None:
    """Nothing waits there in any case, so that one set of settings may serve both."""

    def app(_: Any, start_response: Any) -> list[bytes]:
        add_task(ran.append, "wsgi")
        start_response("200 OK", [])
        return [b"ok"]

    ran.clear()
    made: Any = WSGIMiddleware(app, await_tasks=False)
    body: Any = made({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)
    assert b"".join(body) == b"ok"
    body.close()
    assert bgadapters.drain(10) == []
    assert ran == ["wsgi"]


def test_a_runtime_made_by_hand_is_asked_as_well() -> None:
    app = BackgroundTasksMiddleware(application(), runtime=Runtime(Settings(await_tasks=False)))
    with pytest.raises(SettingsError, match="await_tasks=False was given"):
        asyncio.run(Client().request(app))
