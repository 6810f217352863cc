"""A view that fails, wherever it does, discards its tasks; its error handler's own tasks run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, abort, session
from werkzeug.exceptions import Forbidden

from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get
from tests.our_log import OurLog
from tests.views import add_both


@pytest.fixture
def add(tasks: BackgroundTasks, log: list[str]) -> Callable[[], None]:
    """Add a task that must not run, and one that must."""

    def add() -> None:
        add_both(tasks, log)

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
    our_log: OurLog,
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
    discarded = our_log.messages
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


def nothing() -> None:
    """What a view that forgot its ``return`` answers."""


def unsaveable() -> str:
    session["key"] = object()
    return "body"


@pytest.mark.parametrize("answer", [nothing, unsaveable])
def test_a_view_of_which_no_response_can_be_made_discards(
    app: Flask, get: Get, log: list[str], add: Callable[[], None], answer: Callable[[], Any]
) -> None:
    app.secret_key = "secret"

    @app.get("/")
    def view() -> Any:
        add()
        return answer()

    assert get().status_code == 500
    assert log == ["always"]


def test_an_http_exception_that_is_returned_is_a_response(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str]
) -> None:
    @app.get("/")
    def view() -> Any:
        tasks.add_task(log.append, "ran")
        return Forbidden()

    assert get().status_code == 403
    assert log == ["ran"]


def test_an_error_handler_that_fails_discards_its_own(
    app: Flask, tasks: BackgroundTasks, get: Get, log: list[str], add: Callable[[], None]
) -> None:
    """The handler of the exception that came of it answers, and adds, in its place."""

    @app.errorhandler(CustomError)
    def fail_in_turn(_: CustomError) -> Any:
        add()
        raise ValueError

    @app.errorhandler(500)
    def answer(_: Exception) -> tuple[str, int]:
        tasks.add_task(log.append, "answer")
        return "answered", 500

    @app.get("/")
    def view() -> Any:
        add()
        raise CustomError

    assert get().text == "answered"
    assert log == ["always", "always", "answer"]


def test_a_teardown_of_the_request_that_raises_discards(
    app: Flask, get: Get, log: list[str], add: Callable[[], None]
) -> None:
    """Flask lets it through to the server, which answers 500 instead of the view."""

    @app.teardown_request
    def teardown(_: BaseException | None) -> None:
        raise CustomError

    @app.get("/")
    def view() -> str:
        add()
        return "never sent"

    with pytest.raises(CustomError):
        get()
    assert log == ["always"]


@pytest.mark.parametrize("path", ["/nowhere", "/with-slash"])
def test_what_the_router_answers_warns_of_nothing(
    app: Flask, tasks: BackgroundTasks, get: Get, our_log: OurLog, path: str
) -> None:
    app.add_url_rule("/with-slash/", view_func=lambda: "body")
    assert get(path).status_code in {308, 404}
    assert our_log.records == []
