"""A view that makes requests of its own application: each has its own tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, abort, request
from werkzeug.test import Client
from werkzeug.wrappers import Response as WerkzeugResponse

import bgadapters
from bgadapters import NoResponseError
from bgadapters.flask import BackgroundTasks
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware
from tests.gateways.wsgi_calls import begin, environ, serve

App = Callable[..., Any]


def copied(path: str) -> dict[str, Any]:
    return {**request.environ, "PATH_INFO": path}


def unread(app: App, path: str) -> object:
    return begin(app, copied(path))


WAYS: dict[str, Callable[[App, str], object]] = {
    "client": lambda app, path: Client(app).get(path).get_data(),
    "closed client": lambda app, path: Client(app).get(path, buffered=True),
    "status of a client": lambda app, path: Client(app).get(path).status_code,
    "environ": lambda app, path: serve(app, copied(path)),
    "the same environ": lambda app, path: serve(app, same(path)),
    "response": lambda app, path: WerkzeugResponse.from_app(app, copied(path)).get_data(),
    "buffered response": lambda app, path: WerkzeugResponse.from_app(app, copied(path), True),
}


def same(path: str) -> dict[str, Any]:
    request.environ["PATH_INFO"] = path
    return request.environ


@pytest.fixture
def log() -> list[str]:
    return []


def add_parts(app: Flask, tasks: BackgroundTasks, log: list[str]) -> None:
    @app.get("/part/<name>")
    def part(name: str) -> str:
        tasks.add_task(log.append, f"part {name}")
        bgadapters.add_task(log.append, f"below {name}")
        if name == "lost":
            abort(404)
        if name == "broken":
            raise LookupError(name)
        return "part"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outer", ["app", "kept"])
@pytest.mark.parametrize("inner", ["app", "kept"])
def test_each_has_its_own_queue(log: list[str], way: str, outer: str, inner: str) -> None:
    """Also where one or the other does not pass the middleware."""
    app = Flask("app")
    entries: dict[str, App] = {"app": app, "kept": app.wsgi_app}
    tasks = BackgroundTasks(app)
    add_parts(app, tasks, log)

    @app.get("/batch")
    def batch() -> str:
        tasks.add_task(log.append, "first")
        bgadapters.add_task(log.append, "second")
        for name in ("one", "lost", "broken", "two"):
            WAYS[way](entries[inner], f"/part/{name}")
            assert bgadapters.drain(10) == []
        tasks.add_task(log.append, "third")
        bgadapters.add_task(log.append, "fourth")
        assert bgadapters.drain(10) == []
        log.append("answered")
        return "batch"

    assert serve(entries[outer], environ(path="/batch")).received == b"batch"
    assert bgadapters.drain(10) == []
    parts = ["part one", "below one", "part two", "below two"]
    assert log == [*parts, "answered", "first", "second", "third", "fourth"]
    with pytest.raises(NoResponseError):
        bgadapters.add_task(print)


def test_what_is_never_closed_leaves_the_outer_queue_alone(log: list[str]) -> None:
    app = Flask("app")
    kept_app = app.wsgi_app
    tasks = BackgroundTasks(app)
    add_parts(app, tasks, log)
    kept: list[Any] = []

    @app.get("/batch")
    def batch() -> str:
        for called in (app, kept_app):
            kept.append(unread(called, "/part/one"))
            bgadapters.add_task(log.append, "outer")
        return "batch"

    serve(app, environ(path="/batch"))
    assert bgadapters.drain(10) == []
    assert log == ["outer", "outer"]
    for exchange in kept:
        exchange.close()
    assert bgadapters.drain(10) == []
    assert log[2:] == ["part one", "below one"] * 2


def test_another_application_is_another_request(log: list[str]) -> None:
    tasks = BackgroundTasks()
    inner, outer = Flask("inner"), Flask("outer")
    for app in (inner, outer):
        tasks.init_app(app)
    add_parts(inner, tasks, log)

    @outer.get("/")
    def view() -> Response:
        tasks.add_task(log.append, "outer")
        for make in (copied, same):
            serve(inner, make("/part/lost"))
            serve(inner, make("/part/one"))
        return Response("outer")

    serve(outer, environ())
    assert bgadapters.drain(10) == []
    assert sorted(log) == ["below one"] * 2 + ["outer"] + ["part one"] * 2  # by two pools


def test_a_request_that_is_tried_again_has_a_queue_for_each_attempt(log: list[str]) -> None:
    app = Flask("app")
    tasks = BackgroundTasks()

    @app.get("/")
    def view() -> str:
        tries.append(1)
        tasks.add_task(log.append, f"try {len(tries)}")
        if len(tries) == 1:
            abort(503)
        return "body"

    def again(env: Any, start_response: Any) -> Any:
        serve(inner, env)
        return inner(env, start_response)

    tries: list[int] = []
    inner = app.wsgi_app
    app.wsgi_app = again  # type: ignore[method-assign,assignment]
    tasks.init_app(app)
    exchange = begin(app)
    assert exchange.read() == b"body"
    assert bgadapters.drain(10) == []
    assert log == []
    exchange.close()
    assert bgadapters.drain(10) == []
    assert log == ["try 2"]


def test_a_middleware_that_copies_the_environ_passes_the_request_on(log: list[str]) -> None:
    """As Flask-SocketIO's does."""
    app = Flask("app")
    tasks = BackgroundTasks()
    inner = app.wsgi_app

    def copying(env: Any, start_response: Any) -> Any:
        return inner({**env, "copied": True}, start_response)

    app.wsgi_app = copying  # type: ignore[method-assign,assignment]
    tasks.init_app(app)

    @app.get("/")
    def view() -> str:
        assert request.environ["copied"]
        tasks.add_task(log.append, "task")
        bgadapters.add_task(log.append, "below")
        return "body"

    serve(BackgroundTasksMiddleware(app), environ())
    assert bgadapters.drain(10) == []
    assert log == ["task", "below"]


def test_a_view_may_answer_with_another_application(log: list[str]) -> None:
    tasks = BackgroundTasks()
    inner, outer = Flask("inner"), Flask("outer")
    for app in (inner, outer):
        tasks.init_app(app)
    add_parts(inner, tasks, log)

    @outer.get("/part/<name>")
    def view(name: str) -> Any:
        tasks.add_task(log.append, f"outer {name}")
        return inner

    exchange = begin(outer, environ(path="/part/one"))
    assert exchange.read() == b"part"
    assert bgadapters.drain(10) == []
    assert log == []
    exchange.close()
    assert bgadapters.drain(10) == []
    assert sorted(log) == ["below one", "outer one", "part one"]


def test_an_environ_that_is_used_again_beside_the_middleware(log: list[str]) -> None:
    app = Flask("app")
    kept = app.wsgi_app
    add_parts(app, BackgroundTasks(app), log)
    env = environ(path="/part/one")
    for _ in range(2):
        serve(kept, env)
        assert bgadapters.drain(10) == []
    assert log == ["part one", "below one"] * 2
    assert not env[QUEUE_KEY].is_open
