"""The extension: where it is at hand, and what it says where it is not."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
    current_app,
    request_finished,
    request_started,
    request_tearing_down,
)

import bgadapters
from bgadapters import NoResponseError, QueueFullError, SettingsError, add_task
from bgadapters.adapters import Runtime
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get


def runtime_of(app: Flask) -> Runtime:
    runtime: Runtime = app.extensions["bgadapters"]
    return runtime


def test_it_is_at_hand_in_views_blueprints_and_below(
    app: Flask, tasks: BackgroundTasks, get: Get
) -> None:
    log: list[str] = []
    blueprint = Blueprint("blueprint", __name__, url_prefix="/blueprint")

    @blueprint.get("/")
    def view() -> str:
        tasks.add_task(log.append, "bound")
        add_task(log.append, "module")
        tasks.options(name="named").add_task(log.append, "options")
        return "done"

    app.register_blueprint(blueprint)
    assert get("/blueprint/").text == "done"
    assert log == ["bound", "module", "options"]


def test_async_views(app: Flask, tasks: BackgroundTasks, get: Get) -> None:
    log: list[str] = []

    async def task(name: str) -> None:
        await asyncio.sleep(0)
        log.append(name)

    @app.get("/")
    async def view() -> str:
        tasks.add_task(task, "bound")
        add_task(task, "module")
        return "done"

    assert get().text == "done"
    assert log == ["bound", "module"]


def test_a_factory_and_several_applications_with_one_extension() -> None:
    """Each application has its own settings and workers."""
    tasks = BackgroundTasks(max_workers=2)
    log: list[str] = []
    workers: list[threading.Thread] = []

    def create(name: str, **config: Any) -> Flask:
        app = Flask(name)
        app.config.update(config)
        tasks.init_app(app)

        @app.get("/")
        def view() -> str:
            tasks.add_task(lambda: log.append(current_app.name))
            tasks.add_task(lambda: workers.append(threading.current_thread()))
            return name

        return app

    one, two = create("one"), create("two", BACKGROUND_TASKS_MAX_WORKERS=3)
    for app in (one, two):
        app.test_client().get("/", buffered=True)
        assert bgadapters.drain() == []
    assert log == ["one", "two"]
    assert runtime_of(one).settings.max_workers == 2
    assert runtime_of(two).settings.max_workers == 3
    assert workers[0] is not workers[1]


def test_one_application_calls_another_in_a_request() -> None:
    log: list[str] = []
    inner, outer = Flask("inner"), Flask("outer")
    inner_tasks, outer_tasks = BackgroundTasks(inner), BackgroundTasks(outer)

    @inner.get("/")
    def inner_view() -> str:
        inner_tasks.add_task(log.append, "inner")
        return "inner"

    @outer.get("/")
    def outer_view() -> str:
        outer_tasks.add_task(log.append, "outer")
        text = inner.test_client().get("/", buffered=True).text
        assert bgadapters.drain() == []
        assert log == ["inner"]
        add_task(log.append, "outer again")
        return text

    assert outer.test_client().get("/", buffered=True).text == "inner"
    assert bgadapters.drain() == []
    assert log == ["inner", "outer", "outer again"]


def test_outside_a_request_it_says_what_to_do_instead(app: Flask, tasks: BackgroundTasks) -> None:
    with pytest.raises(NoResponseError, match="used outside a request"):
        tasks.add_task(print)
    with app.app_context(), pytest.raises(RuntimeError, match="used outside a request"):
        tasks.options(always=True)


def test_it_is_no_decorator(tasks: BackgroundTasks) -> None:
    for arguments in ((), (print,)):
        with pytest.raises(TypeError, match=r"no decorator in Flask: .*background_tasks\.add_task"):
            tasks(*arguments)


def test_a_request_that_no_server_made_is_refused(app: Flask, tasks: BackgroundTasks) -> None:
    with app.test_request_context(), pytest.raises(NoResponseError, match="test_request_context"):
        tasks.add_task(print)


def test_an_application_that_was_not_initialised_is_named(app: Flask) -> None:
    tasks = BackgroundTasks()

    @app.get("/")
    def view() -> str:
        with pytest.raises(NoResponseError, match=r"'app': call background_tasks\.init_app"):
            tasks.add_task(print)
        return "refused"

    assert app.test_client().get("/").text == "refused"


def test_an_application_is_initialised_once(app: Flask, tasks: BackgroundTasks) -> None:
    with pytest.raises(RuntimeError, match="initialised for this application already"):
        BackgroundTasks(app)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"BACKGROUND_TASKS_MAX_WORKERS": 0}, "BACKGROUND_TASKS_MAX_WORKERS accepts a whole"),
        ({"BACKGROUND_TASKS_MAX_PENDING": "8"}, "BACKGROUND_TASKS_MAX_PENDING accepts a whole"),
        ({"BACKGROUND_TASKS_WORKERS": 8}, "unknown setting BACKGROUND_TASKS_WORKERS; accepted"),
    ],
)
def test_wrong_config_is_refused_at_start_up(app: Flask, config: Any, said: str) -> None:
    app.config.update(config)
    with pytest.raises(SettingsError, match=said):
        BackgroundTasks(app)


def test_wrong_settings_are_refused_at_start_up(app: Flask) -> None:
    with pytest.raises(SettingsError, match=r"^max_workers accepts a whole number from 1, not -1"):
        BackgroundTasks(app, max_workers=-1)
    with pytest.raises(SettingsError, match=r"^unknown setting workers"):
        BackgroundTasks().init_app(app, workers=8)  # type: ignore[call-arg]


def test_the_config_goes_before_keyword_arguments(app: Flask) -> None:
    app.config["BACKGROUND_TASKS_MAX_WORKERS"] = 3
    BackgroundTasks(max_workers=1, max_pending=2).init_app(app, max_workers=2)
    settings = runtime_of(app).settings
    assert (settings.max_workers, settings.max_pending) == (3, 2)


def test_a_full_backlog_can_be_answered(app: Flask, get: Get) -> None:
    tasks = BackgroundTasks(app, max_pending=1, on_full="reject")

    @app.errorhandler(QueueFullError)
    def full(_: QueueFullError) -> tuple[str, int]:
        return "full", 503

    @app.get("/")
    def view() -> str:
        tasks.add_task(print, end="")
        tasks.add_task(print, end="")
        return "never"

    assert get().status_code == 503
    assert runtime_of(app).in_flight.in_use == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_a_task_may_add_tasks_through_the_extension(
    app: Flask, tasks: BackgroundTasks, get: Get, is_async: bool
) -> None:
    log: list[str] = []

    def task() -> None:
        tasks.add_task(log.append, "last")

    async def atask() -> None:
        task()

    @app.get("/")
    def view() -> str:
        tasks.add_task(atask if is_async else task)
        tasks.add_task(log.append, "first")
        return ""

    get()
    assert log == ["first", "last"]


def test_an_application_and_its_runtime_are_not_kept_alive() -> None:
    app = Flask("app")
    tasks = BackgroundTasks(app)

    @app.get("/")
    def view() -> str:
        tasks.add_task(int)
        return "body"

    assert app.test_client().get("/", buffered=True).text == "body"
    assert bgadapters.drain(10) == []
    kept = weakref.ref(app), weakref.ref(runtime_of(app))
    del app, view
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_tasks_run_in_worker_threads(app: Flask, tasks: BackgroundTasks, get: Get) -> None:
    threads: list[threading.Thread] = []

    @app.get("/")
    def view() -> str:
        tasks.add_task(lambda: threads.append(threading.current_thread()))
        return ""

    get()
    assert threads != [threading.current_thread()]


@pytest.mark.usefixtures("tasks")
def test_a_request_that_came_through_the_middleware_is_told_of_by_one_signal(
    app: Flask, get: Get
) -> None:
    app.add_url_rule("/", view_func=lambda: "no task")
    assert get("/").text == "no task"
    assert request_started.has_receivers_for(app)
    assert not request_finished.has_receivers_for(app)
    assert not request_tearing_down.has_receivers_for(app)
