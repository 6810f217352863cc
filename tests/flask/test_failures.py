"""A view that fails, wherever it does, discards its tasks; its error handler's own tasks run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, stream_with_context
from werkzeug.exceptions import Forbidden

from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def add(tasks: BackgroundTasks, log: list[str]) -> Callable[[], None]:
    """Add a task that must not run, and one that must."""

    def add() -> None:
        tasks.add_task(log.append, "never")
        tasks.options(always=True).add_task(log.append, "always")

    return add


class CustomError(Exception):
    """Handled by the application, or by nobody."""


def aborting() -> None:
    abort(403)


def raising() -> None:
    raise CustomError


@pytest.mark.parametrize("fail", [aborting, raising])
@pytest.mark.parametrize("where", ["view", "before_request", "after_request"])
def test_what_escapes_discards_and_its_handler_may_add(
    app: Flask,
    tasks: BackgroundTasks,
    get: Get,
    log: list[str],
    add: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
    where: str,
    fail: Callable[[], None],
) -> None:
    @app.errorhandler(CustomError)
    @app.errorhandler(Forbidden)
    @app.errorhandler(500)
    def handle(_: Exception) -> tuple[str, int]:
        tasks.add_task(log.append, "handler")
        return "handled", 400

    def fails(*args: Any) -> Any:
        if where != "after_request" or "failed" not in log:
            log.append("failed")
            add()
            fail()
        return args[0] if args else "view"

    app.add_url_rule("/", view_func=(lambda: "view") if where != "view" else fails)
    if where == "before_request":
        app.before_request(fails)
    elif where == "after_request":
        app.after_request(fails)
    response = get()
    assert response.text == "handled"
    assert log == ["failed", "always", "handler"]
    discarded = [r.getMessage() for r in caplog.records if r.name == "bgadapters"]
    assert len(discarded) == 1
    assert discarded[0].startswith("1 background task(s) discarded, the response failed with ")


def test_an_exception_that_nobody_handles_discards(
    app: Flask, get: Get, log: list[str], add: Callable[[], None]
) -> None:
    @app.get("/")
    def view() -> str:
        add()
        raise CustomError

    assert get().status_code == 500
    assert log == ["always"]


def test_an_exception_that_is_propagated_discards(
    app: Flask, get: Get, log: list[str], add: Callable[[], None]
) -> None:
    """In debug and in tests Flask lets it through."""
    app.testing = True

    @app.get("/")
    def view() -> str:
        add()
        raise CustomError

    with pytest.raises(CustomError):
        get()
    assert log == ["always"]


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_returned_response_runs_its_tasks_whatever_its_status(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str], status: int
) -> None:
    @app.get("/")
    def view() -> tuple[str, int]:
        tasks.add_task(log.append, "ran")
        return "body", status

    assert get().status_code == status
    assert log == ["ran"]


def test_a_stream_runs_its_tasks_at_its_end_and_may_add_some(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str]
) -> None:
    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[str]:
            log.append("streaming")
            tasks.add_task(log.append, "added on the way")
            yield "body"

        tasks.add_task(log.append, "added before")
        return Response(stream_with_context(chunks()))

    assert get().text == "body"
    assert log == ["streaming", "added before", "added on the way"]


def test_a_stream_that_breaks_off_discards(
    app: Flask, get: Get, log: list[str], add: Callable[[], None]
) -> None:
    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[str]:
            yield "half"
            raise CustomError

        add()
        return Response(chunks())

    with pytest.raises(CustomError):
        get()
    assert log == ["always"]


def test_a_404_of_the_router_is_nobodys_failure(app: Flask, tasks: BackgroundTasks) -> None:
    assert app.test_client().get("/nowhere", buffered=True).status_code == 404
