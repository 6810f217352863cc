"""A suite for Flask and its client as it is."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, redirect, send_file, stream_with_context
from werkzeug.serving import make_server

from bgadapters.flask import BackgroundTasks
from bgadapters.testing import Recorder
from bgadapters.wsgi import BackgroundTasksMiddleware

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


def note(what: object) -> None:
    ran.append((what, threading.current_thread()))


async def anote(what: object) -> None:
    await asyncio.sleep(0)
    ran.append((what, threading.current_thread()))


def fail() -> None:
    raise ValueError("of a task")


background_tasks = BackgroundTasks()
app = Flask(__name__)
background_tasks.init_app(app)


def add() -> None:
    background_tasks.add_task(note, 1)
    background_tasks.add_task(anote, 2)
    background_tasks.add_task(note, 3)


@app.get("/text")
def text() -> str:
    add()
    return "text"


@app.get("/elsewhere")
def elsewhere() -> Any:
    add()
    return redirect("/text")


@app.get("/file")
def file() -> Response:
    add()
    return send_file(__file__)


@app.get("/nothing")
def nothing() -> tuple[str, int]:
    add()
    return "", 204


@app.get("/stream")
def stream() -> Response:
    def body() -> Iterator[str]:
        yield "first "
        add()
        yield "last"

    return Response(stream_with_context(body()))


@app.get("/break")
def breaking() -> Response:
    def body() -> Iterator[str]:
        yield "first"
        raise OSError("of the body")

    background_tasks.add_task(note, "never")
    return Response(body())


@app.get("/fail")
def failing() -> str:
    background_tasks.add_task(fail)
    return "fine"


def here() -> list[Any]:
    return [(number, threading.current_thread()) for number in (1, 2, 3)]


@pytest.mark.parametrize("path", ["/text", "/elsewhere", "/file", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_tasks_have_run_in_this_thread(path: str, method: str) -> None:
    app.test_client().open(path, method=method)
    assert ran == here()


def test_redirects_are_followed() -> None:
    assert app.test_client().get("/elsewhere", follow_redirects=True).text == "text"
    assert ran == here() * 2


def test_tasks_of_a_stream_run_when_it_was_read() -> None:
    response = app.test_client().get("/stream")
    assert ran == []
    assert response.text == "first last"
    assert ran == here()


def test_tasks_of_a_stream_run_when_it_is_closed(background_tasks: Recorder) -> None:
    response = app.test_client().get("/stream")
    chunks = response.iter_encoded()
    assert next(chunks) == b"first "
    assert next(chunks) == b"last"
    response.close()
    response.close()
    assert ran == here()
    background_tasks.assert_added_once(anote, 2)


def test_tasks_of_a_broken_stream_are_discarded(background_tasks: Recorder) -> None:
    with pytest.raises(OSError, match="of the body"):
        app.test_client().get("/break").get_data()
    assert background_tasks.assert_added_once(note, "never").outcome == "discarded"


def test_errors_for_a_stream_that_nobody_reads() -> None:
    app.test_client().get("/stream").iter_encoded().__next__()
    app.test_client().get("/break")


def test_fails_with_the_task() -> None:
    assert app.test_client().get("/fail").text == "fine"


@pytest.mark.background_tasks("capture")
def test_captured_tasks_run_later(background_tasks: Recorder) -> None:
    app.test_client().get("/text")
    assert ran == []
    assert {task.path for task in background_tasks.tasks} == {"/text"}
    background_tasks.run_pending()
    assert ran == here()


def test_nested_middlewares_have_one_queue() -> None:
    outer = Flask("outer")
    outer.wsgi_app = BackgroundTasksMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    outer.test_client().get("/text")
    outer.test_client().get("/stream").get_data()
    assert ran == here() * 2


def test_an_application_that_returns_a_generator_and_answers_late() -> None:
    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        environ["bgadapters.queue"].add_task(note, 1)
        start_response("200 OK", [("Content-Length", "4")])
        yield b"late"

    plain = Flask("plain")
    plain.wsgi_app = BackgroundTasksMiddleware(application)  # type: ignore[method-assign]
    assert plain.test_client().get("/").text == "late"
    assert ran == here()[:1]


async def test_a_coroutine_may_use_the_client_too() -> None:
    app.test_client().get("/text")
    assert [number for number, _ in ran] == [1, 2, 3]


def test_a_server_in_a_thread() -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        for path in ("text", "stream"):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{path}") as response:
                response.read()
            assert [number for number, _ in ran] == [1, 2, 3]
            ran.clear()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
