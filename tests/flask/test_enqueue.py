"""``bgadapters.enqueue`` in and outside of requests of Flask."""

from __future__ import annotations

from flask import Flask, current_app, g

from bgadapters import drain, enqueue
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get


def test_in_a_request_it_adds_to_the_request_s_queue(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str]
) -> None:
    @app.get("/")
    def view() -> str:
        tasks.add_task(log.append, "first")
        enqueue(log.append, "second")
        return ""

    get()
    assert log == ["first", "second"]


def test_in_a_command_it_runs_in_a_context_of_its_own(
    app: Flask, tasks: BackgroundTasks, log: list[str]
) -> None:
    def task() -> None:
        log.append(f"{current_app.name}, g: {'here' in g}")

    with app.app_context():
        g.here = True
        enqueue(task)
        assert drain(10) == []
    assert log == ["app, g: False"]


def test_in_a_request_that_no_client_made(
    app: Flask, tasks: BackgroundTasks, log: list[str]
) -> None:
    with app.test_request_context():
        enqueue(lambda: log.append(current_app.name))
        assert drain(10) == []
    assert log == ["app"]


def test_in_an_application_without_the_extension_it_is_no_task_of_flask_s(
    app: Flask, log: list[str]
) -> None:
    with app.app_context():
        enqueue(log.append, "ran")
        assert drain(10) == []
    assert log == ["ran"]
