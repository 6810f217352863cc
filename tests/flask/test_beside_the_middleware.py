"""Requests that pass by the middleware, other extensions in front of ours, queues by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort, current_app, g, has_request_context, send_file

import bgadapters
from bgadapters import NoResponseError
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get
from tests.gateways.wsgi_calls import begin, environ


@pytest.fixture
def log() -> list[str]:
    return []


def test_an_extension_that_comes_later_answers_and_still_the_tasks_are_discarded(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str]
) -> None:
    """As Flask-RESTX puts the errors of its resources before the application's handlers."""

    def answer(_: Callable[..., Any], *args: Any) -> Response:
        tasks.add_task(log.append, "handler")
        return Response(str(args[-1]), 409)

    for name in ("handle_user_exception", "handle_exception"):
        setattr(app, name, partial(answer, getattr(app, name)))

    @app.get("/")
    def view() -> str:
        tasks.add_task(log.append, "never")
        raise ValueError("sold out")

    assert get().status_code == 409
    assert log == ["handler"]


def chunks(log: list[str]) -> Iterator[bytes]:
    yield b"bo"
    log.append("sent")
    yield b"dy"


@pytest.mark.parametrize("kind", ["known", "stream", "file", "HEAD", "handled"])
def test_a_response_that_passes_by_the_middleware_releases_its_tasks(
    app: Flask, log: list[str], tmp_path: Path, kind: str
) -> None:
    """As connexion keeps ``wsgi_app`` before anybody can wrap it."""
    kept = app.wsgi_app
    tasks = BackgroundTasks(app)
    (tmp_path / "file").write_bytes(b"body")

    @app.errorhandler(409)
    def answer(_: Exception) -> str:
        return "body"

    @app.get("/")
    def view() -> Any:
        tasks.add_task(log.append, "task")
        bgadapters.add_task(log.append, "task below")
        if kind == "handled":
            abort(409)
        if kind == "file":
            return send_file(tmp_path / "file", mimetype="text/plain")
        return Response(chunks(log)) if kind in {"stream", "HEAD"} else "body"

    exchange = begin(kept, environ("HEAD" if kind == "HEAD" else "GET"))
    assert exchange.read() == (b"" if kind == "HEAD" else b"body")
    assert bgadapters.drain(10) == []
    assert "task" not in log
    exchange.close()
    assert bgadapters.drain(10) == []
    ran = [] if kind == "handled" else ["task", "task below"]
    assert [each for each in log if each != "sent"] == ran
    with pytest.raises(NoResponseError):
        bgadapters.add_task(print)


@pytest.mark.parametrize("propagates", [False, True])
def test_what_fails_beside_the_middleware_discards(
    app: Flask, log: list[str], propagates: bool
) -> None:
    kept = app.wsgi_app
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    tasks = BackgroundTasks(app)

    @app.get("/")
    def view() -> str:
        tasks.options(always=True).add_task(log.append, "always")
        tasks.add_task(log.append, "never")
        raise ValueError("sold out")

    if propagates:
        with pytest.raises(ValueError, match="sold out"):
            begin(kept)
    else:
        exchange = begin(kept)
        exchange.read()
        exchange.close()
    assert bgadapters.drain(10) == []
    assert log == ["always"]


def test_a_queue_by_itself_has_the_applications_scope(
    app: Flask, tasks: BackgroundTasks, log: list[str]
) -> None:
    def task() -> None:
        log.append(f"{current_app.name}, {'who' in g}, {has_request_context()}")

    with app.app_context():
        g.who = "command"
        with tasks.queue() as queue:
            queue.add_task(task)
            tasks.add_task(task)  # as code does that is used in requests as well
            bgadapters.add_task(task)
        assert queue.runtime is app.extensions["bgadapters"]
    with tasks.queue(app) as queue:
        queue.add_task(task)
    assert bgadapters.drain(10) == []
    assert log == ["app, False, False"] * 4


def test_the_messages_name_the_queue_of_the_application(app: Flask, tasks: BackgroundTasks) -> None:
    with pytest.raises(NoResponseError, match=r"Name the application: .*queue\(app\)"):
        tasks.queue()
    with app.app_context(), pytest.raises(NoResponseError, match=r"with background_tasks\.queue"):
        tasks.add_task(print)
    with pytest.raises(NoResponseError, match="not initialised for the application 'other'"):
        tasks.queue(Flask("other"))
    with (
        app.app_context(),
        bgadapters.BackgroundTasks(),
        pytest.raises(NoResponseError, match=r"with background_tasks\.queue"),
    ):
        tasks.add_task(print)
