"""Every kind of response runs its tasks once, after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
from flask import Flask, Response, request, send_file, stream_with_context

import bgadapters
from bgadapters import add_task
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get
from tests.gateways.wsgi_calls import begin, environ


@pytest.mark.parametrize("range_", [None, "bytes=0-6"])
@pytest.mark.parametrize("file_wrapper", [None, FileWrapper])
def test_a_file_is_sent_as_a_file_and_its_tasks_run_once_after_it(
    app: Flask, tasks: BackgroundTasks, tmp_path: Path, file_wrapper: Any, range_: str | None
) -> None:
    log: list[int] = []
    path = tmp_path / "file.txt"
    path.write_text("content of a file")

    @app.get("/")
    def view() -> flask.Response:
        tasks.add_task(log.append, 1)
        return send_file(path)

    env = environ(file_wrapper=file_wrapper)
    if range_ is not None:
        env["HTTP_RANGE"] = range_
    exchange = begin(app, env)
    if file_wrapper is not None and range_ is None:  # Flask itself gives up the wrapper for a range
        assert type(exchange.body) is file_wrapper
    assert exchange.read() == (b"content" if range_ else b"content of a file")
    assert bgadapters.drain(10) == []
    assert log == []
    exchange.close()
    exchange.close()
    assert bgadapters.drain(10) == []
    assert log == [1]


def test_the_responses_own_close_functions_come_first_and_may_add_tasks(
    app: Flask, tasks: BackgroundTasks
) -> None:
    """One that raises does not cost the tasks."""
    log: list[str] = []

    def closing() -> None:
        log.append("closing")
        add_task(log.append, "added while closing")
        raise OSError("close failed")

    @app.get("/")
    def view() -> flask.Response:
        tasks.add_task(log.append, "added by the view")
        response = flask.Response("body")
        response.call_on_close(closing)
        return response

    with pytest.raises(OSError, match="close failed"):
        app.test_client().get("/", buffered=True)
    assert bgadapters.drain(10) == []
    assert log == ["closing", "added by the view", "added while closing"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("HEAD", {}, 200), ("GET", {"If-None-Match": '"tag"'}, 304), ("OPTIONS", {}, 200)],
)
def test_a_response_without_a_body_runs_its_tasks(
    app: Flask,
    tasks: BackgroundTasks,
    get: Get,
    method: str,
    headers: dict[str, str],
    status: int,
) -> None:
    log: list[str] = []

    @app.before_request
    def audit() -> None:
        tasks.add_task(log.append, "task")

    @app.get("/")
    def view() -> flask.Response:
        response = flask.Response("body")
        response.set_etag("tag")
        return response.make_conditional(request)  # type: ignore[return-value,unused-ignore]

    response = get(method=method, headers=headers)
    assert (response.status_code, response.data) == (status, b"")
    assert log == ["task"]


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
