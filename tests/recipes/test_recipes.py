"""The recipes that belong to no framework: a connection, a tenant, the id of a request."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import bgadapters
from bgadapters.adapters import Runtime, Settings
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways import wsgi_calls

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SNIPPETS))


def ran(task: Any, middleware: Any, *args: Any) -> None:
    """Run a task with a middleware, as a server does."""
    runtime = Runtime(Settings(task_middleware=(middleware,), max_workers=2))
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(task, *args)
    assert runtime.drain(10) == []


def test_a_task_has_a_connection_of_peewee_to_itself(tmp_path: Path) -> None:
    peewee = pytest.importorskip("peewee")
    recipe = importlib.import_module("recipes.peewee_connection")
    happened: list[str] = []

    class Watched(peewee.SqliteDatabase):  # type: ignore[misc,name-defined]
        def connect(self, reuse_if_open: bool = False) -> Any:
            happened.append("opened")
            return super().connect(reuse_if_open=reuse_if_open)

        def close(self) -> Any:
            happened.append("closed")
            return super().close()

    database = Watched(str(tmp_path / "db"), autoconnect=False)
    middleware = recipe.PeeweeConnection(database)
    with database.connection_context():
        database.execute_sql("CREATE TABLE note (text TEXT)")
    happened.clear()

    def writes(text: str) -> None:
        database.execute_sql("INSERT INTO note VALUES (?)", (text,))
        happened.append("written")

    def fails(text: str) -> None:
        writes(text)
        raise ValueError

    for task in (writes, fails, writes):
        ran(task, middleware, "ada")
    assert happened == 3 * ["opened", "written", "closed"]
    with pytest.raises(AssertionError):
        without(writes)
    with database.connection_context():
        assert database.execute_sql("SELECT count(*) FROM note").fetchone() == (3,)


def without(task: Callable[..., None]) -> None:
    """Run a task that fails without the middleware: peewee asks for a connection."""
    failures: list[Any] = []
    runtime = Runtime(Settings(on_error=failures.append))
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(task, "bob")
    runtime.drain(10)
    assert not failures, failures


def test_a_connection_of_the_caller_stays_open(tmp_path: Path) -> None:
    """Where a test has tasks run in its own thread."""
    peewee = pytest.importorskip("peewee")
    recipe = importlib.import_module("recipes.peewee_connection")
    database = peewee.SqliteDatabase(str(tmp_path / "db"), autoconnect=False)
    info: Any = type("Info", (), {"is_async": False})
    with database.connection_context():
        with recipe.PeeweeConnection(database).around(info, None):
            database.execute_sql("SELECT 1")
        database.execute_sql("SELECT 1")


def test_an_async_task_has_no_connection_of_the_thread(tmp_path: Path) -> None:
    peewee = pytest.importorskip("peewee")
    recipe = importlib.import_module("recipes.peewee_connection")
    database = peewee.SqliteDatabase(str(tmp_path / "db"), autoconnect=False)
    seen: list[bool] = []

    async def task() -> None:
        seen.append(bool(database.is_closed()))

    ran(task, recipe.PeeweeConnection(database))
    assert seen == [True]


def test_tasks_run_for_the_tenant_of_their_request() -> None:
    recipe = importlib.import_module("recipes.tenant")
    seen: list[Any] = []

    def task() -> None:
        seen.append(recipe.current_tenant.get())

    async def atask() -> None:
        await asyncio.sleep(0)
        task()

    def request(tenant: str) -> None:
        recipe.current_tenant.set(tenant)
        for each in (task, atask):
            ran(each, recipe.Tenant())

    for tenant in ("one", "two"):
        Context().run(request, tenant)
    assert seen == ["one", "one", "two", "two"]


def test_what_a_tenant_captures_is_enough_in_another_process() -> None:
    """There the task has no context variables of its request."""
    recipe = importlib.import_module("recipes.tenant")
    info: Any = None

    def elsewhere() -> str | None:
        with recipe.Tenant().around(info, "one"):
            return str(recipe.current_tenant.get())

    assert Context().run(elsewhere) == "one"


@pytest.fixture
def records() -> Iterator[list[tuple[str, str | None]]]:
    """What our logger has written, each with the id that the filter gives it."""
    recipe = importlib.import_module("recipes.correlation")
    found: list[tuple[str, str | None]] = []

    class Handler(logging.Handler):
        def emit(self, record: Any) -> None:
            found.append((record.getMessage().rpartition(": ")[2], record.request_id))

    handler = Handler(logging.ERROR)
    handler.addFilter(recipe.RequestIdFilter())
    logger = logging.getLogger("bgadapters")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def boom(who: str) -> None:
    raise ValueError(who)


async def aboom(who: str) -> None:
    raise ValueError(who)


def through_fastapi() -> Callable[[str], None]:
    recipe = importlib.import_module("recipes.correlation")
    app = FastAPI()
    init_app(app, task_middleware=["recipes.correlation.RequestId"])
    app.add_middleware(recipe.RequestIdMiddleware)

    @app.get("/{who}")
    def view(who: str, tasks: BackgroundTasks) -> None:
        tasks.add_task(boom, who)
        tasks.add_task(aboom, who)

    client = TestClient(app)
    return lambda who: client.get(f"/{who}", headers={"X-Request-ID": f"id of {who}"}).close()


def through_wsgi(handler: Any) -> Callable[[str], None]:
    recipe = importlib.import_module("recipes.correlation")

    def get(who: str) -> None:
        environ = wsgi_calls.environ("GET", f"/{who}") | {"HTTP_X_REQUEST_ID": f"id of {who}"}
        exchange = wsgi_calls.serve(recipe.RequestIdWSGIMiddleware(handler), environ)
        assert exchange.status.startswith("200")

    return lambda who: Context().run(get, who)


def through_flask() -> Callable[[str], None]:
    from flask import Flask

    from bgadapters.flask import BackgroundTasks as FlaskTasks

    app = Flask(__name__)
    app.config["BACKGROUND_TASKS_TASK_MIDDLEWARE"] = ["recipes.correlation.RequestId"]
    tasks = FlaskTasks(app)

    @app.get("/<who>")
    def view(who: str) -> str:
        tasks.add_task(boom, who)
        tasks.add_task(aboom, who)
        return "ok"

    return through_wsgi(app)


def through_django() -> Callable[[str], None]:
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    from tests.django.serving import HOSTS, MIDDLEWARE, Site, URLConf

    def view(request: Any, who: str) -> HttpResponse:
        request.background_tasks.add_task(boom, who)
        request.background_tasks.add_task(aboom, who)
        return HttpResponse("ok")

    def get(who: str) -> None:
        with Site(HOSTS["wsgi"]) as site:
            urls = URLConf({})
            urls.urlpatterns = [path("<who>", view)]
            settings = {"TASK_MIDDLEWARE": ["recipes.correlation.RequestId"]}
            site.set(ROOT_URLCONF=urls, MIDDLEWARE=[MIDDLEWARE], BACKGROUND_TASKS=settings)
            through_wsgi(WSGIHandler())(who)
            bgadapters.drain()

    return get


@pytest.mark.parametrize("through", [through_fastapi, through_flask, through_django])
def test_the_log_of_a_task_has_the_id_of_its_request(
    records: list[tuple[str, str | None]], through: Callable[[], Callable[[str], None]]
) -> None:
    get = through()
    for who in ("ada", "bob"):
        get(who)
        bgadapters.drain()
    assert records == [(who, f"id of {who}") for who in ("ada", "ada", "bob", "bob")]
