"""``init_app``: settings, a queue for every request, and a drain in the lifespan."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import bgadapters
from bgadapters import QueueFullError, SettingsError, TaskEvent, add_task
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways.asgi_calls import Client, Lifespan, http_scope, others_wait


def test_views_may_add_tasks_without_the_dependency() -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.get("/sync")
    def sync_view() -> None:
        add_task(log.append, "sync")

    @app.get("/async")
    async def async_view() -> None:
        add_task(log.append, "async")

    client = TestClient(app)
    client.get("/sync")
    client.get("/async")
    assert log == ["sync", "async"]


def test_the_dependency_and_add_task_share_one_queue() -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        add_task(log.append, "first")
        tasks.add_task(log.append, "second")
        add_task(log.append, "third")

    TestClient(app).get("/")
    assert log == ["first", "second", "third"]


def test_a_mounted_application_uses_the_queue_of_the_outer_one() -> None:
    outer, inner, log = FastAPI(), FastAPI(), list[str]()
    init_app(outer, on_event=lambda event: log.append(event.kind))
    outer.mount("/inner", inner)

    @inner.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")
        add_task(log.append, "second task")

    TestClient(outer).get("/inner/")
    assert [what for what in log if "task" in what] == ["task", "second task"]
    assert log.count("added") == 2


def test_a_mounted_application_may_be_set_up_by_itself() -> None:
    outer, inner, log = FastAPI(), FastAPI(), list[str]()
    init_app(inner)
    outer.mount("/inner", inner)

    @inner.get("/")
    async def view() -> None:
        add_task(log.append, "task")

    TestClient(outer).get("/inner/")
    assert log == ["task"]


def test_the_settings_are_used() -> None:
    events: list[tuple[str, str]] = []
    errors: list[TaskEvent] = []

    def note(event: TaskEvent) -> None:
        events.append((event.kind, event.task.name))

    app = FastAPI()
    init_app(app, on_event=note, on_error=errors.append, max_pending=1, on_full="reject")

    def fail() -> None:
        raise ValueError

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> int:
        tasks.options(name="failing").add_task(fail)
        try:
            tasks.add_task(print)
        except QueueFullError:
            return 503
        return 200

    assert TestClient(app).get("/").json() == 503
    assert events == [("added", "failing"), ("started", "failing"), ("failed", "failing")]
    assert [type(error.exception) for error in errors] == [ValueError]


def test_two_applications_have_settings_of_their_own() -> None:
    first, second, log = FastAPI(), FastAPI(), list[str]()
    for name, app in (("first", first), ("second", second)):
        init_app(app, on_error=lambda event, name=name: log.append(name))  # type: ignore[misc]

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(int, "no number")

    TestClient(second).get("/")
    assert log == ["second"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_worker": 1}, "unknown setting max_worker; accepted are max_workers, max_pending"),
        ({"max_workers": 0}, "max_workers accepts a whole number from 1, not 0"),
        ({"max_workers": -1}, "max_workers accepts a whole number from 1, not -1"),
        ({"max_workers": "8"}, "max_workers accepts a whole number from 1, not '8'"),
        ({"max_workers": True}, "max_workers accepts a whole number from 1, not True"),
        ({"max_pending": 1.5}, "max_pending accepts a whole number from 1, not 1.5"),
        ({"on_full": "wait"}, "on_full accepts 'run' or 'reject', not 'wait'"),
        ({"drain_timeout": -1}, "drain_timeout accepts a number of seconds from 0 to"),
        ({"on_event": "nowhere.to.find"}, "on_event: cannot import 'nowhere.to.find'"),
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(
    settings: dict[str, Any], message: str
) -> None:
    app = FastAPI()
    with pytest.raises(SettingsError, match=message):
        init_app(app, **settings)
    init_app(app)


def test_a_second_call_is_refused() -> None:
    app = FastAPI()
    init_app(app)
    with pytest.raises(RuntimeError, match="called for this application already"):
        init_app(app)


def test_a_call_after_the_application_has_started_is_refused() -> None:
    app = FastAPI()
    TestClient(app).get("/")
    with pytest.raises(RuntimeError, match="Cannot add middleware after an application has start"):
        init_app(app)


@pytest.mark.parametrize("lifespan", ["own", "none"])
def test_tasks_finish_before_the_exit_code_of_the_lifespan(lifespan: str) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        log.append("startup")
        yield {"state": "kept"}
        log.append("resources closed")

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()
        app = FastAPI(lifespan=own if lifespan == "own" else None)
        init_app(app)

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(task)

        protocol = Lifespan(app)
        await protocol.startup()
        request = asyncio.ensure_future(Client().request(app))
        await running.wait()
        shutdown = asyncio.ensure_future(protocol.shutdown())
        await others_wait()
        gate.set()
        await shutdown
        log.append("shut down")
        await request

    asyncio.run(main())
    if lifespan == "own":
        assert log == ["startup", "task", "resources closed", "shut down"]
    else:
        assert log == ["task", "shut down"]


def test_the_lifespans_state_still_reaches_the_views() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"greeting": "hello"}

    from fastapi import Request

    app = FastAPI(lifespan=lifespan)
    init_app(app)

    @app.get("/")
    async def view(request: Request) -> str:
        greeting: str = request.state.greeting
        return greeting

    with TestClient(app) as client:
        assert client.get("/").json() == "hello"


def test_the_lifespan_drains_queues_made_by_hand_too() -> None:
    """A ``with`` block in a view hands its tasks to the default runtime."""
    log: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        log.append("resources closed")

    async def main() -> None:
        app = FastAPI(lifespan=lifespan)
        init_app(app)
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        @app.get("/")
        async def view() -> None:
            with bgadapters.BackgroundTasks() as tasks:
                tasks.add_task(task)

        protocol = Lifespan(app)
        await protocol.startup()
        await Client().request(app, http_scope())
        await running.wait()
        shutdown = asyncio.ensure_future(protocol.shutdown())
        await others_wait()
        gate.set()
        await shutdown
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task", "resources closed"]
