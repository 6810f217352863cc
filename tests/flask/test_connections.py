"""WebSockets: tasks start as they are added, and a client that leaves discards nothing."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request

import bgadapters
from bgadapters import NoResponseError, QueueClosedError
from bgadapters.flask import BackgroundTasks
from bgadapters.flask.connections import event_queue
from tests.flask.conftest import Get
from tests.gateways.wsgi_calls import environ
from tests.running import Running, running

simple_websocket = pytest.importorskip("simple_websocket")
pytest.importorskip("flask_sock")
pytest.importorskip("flask_socketio")

SERVERS = {
    "gthread": ["{bin}/gunicorn", "-b", "127.0.0.1:{port}", "--threads", "4"],
    "gevent": ["{bin}/gunicorn", "-b", "127.0.0.1:{port}", "-k", "gevent"],
    "werkzeug": ["{bin}/flask", "--app", "tests.flask.socket_app", "run", "-p", "{port}"],
}


def command(server: str) -> list[str]:
    if server == "gevent":
        pytest.importorskip("gevent")
    app = [] if server == "werkzeug" else ["tests.flask.socket_app:app"]
    return [*SERVERS[server], *app]


def ran(server: Running, count: int) -> Any:
    with urllib.request.urlopen(f"{server.url}/ran/{count}", timeout=30) as response:
        return json.load(response)


def connect(server: Running, path: str) -> Any:
    return simple_websocket.Client(server.url.replace("http", "ws") + path)


def added(what: str) -> list[str]:
    return [f"{what} {number}" for number in (1, 2, 3, 4)]


def receive(ws: Any, prefix: str = "") -> str:
    """Receive the next message that begins like this."""
    while True:
        text: str | None = ws.receive(timeout=20)
        assert text is not None, "the server has not answered"
        if text.startswith(prefix):
            return text.removeprefix(prefix)


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("leaves", ["in order", "at once", "failed"])
def test_a_websocket_of_flask_sock(tmp_path: Path, server: str, leaves: str) -> None:
    variables = {"ORDER": "tasks last", "FAILS": "yes" if leaves == "failed" else ""}
    with running(tmp_path, *command(server), **variables) as running_server:
        ws = connect(running_server, "/echo")
        ws.send("a")
        assert receive(ws).split(",") == added("a")
        if leaves == "at once":
            ws.close()
            last = []
        else:
            ws.send("bye")
            last = ["left"]
        assert ran(running_server, 4 + len(last)) == [*added("a"), *last]
    assert "discarded" not in running_server.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["gthread", "gevent"])
@pytest.mark.parametrize("order", ["tasks first", "tasks last"])
@pytest.mark.parametrize("handlers", ["threads", "connection"])
def test_events_of_flask_socketio(tmp_path: Path, server: str, order: str, handlers: str) -> None:
    """Spoken as its protocol is: 0 opens, 40 connects, 42 and an event, 43 and its answer."""
    variables = {"ORDER": order, "HANDLERS": handlers}
    with running(tmp_path, *command(server), **variables) as running_server:
        ws = connect(running_server, "/socket.io/?EIO=4&transport=websocket")
        ws.send("40")  # the 0 that comes with the handshake is not always seen by this client
        receive(ws, "40")
        assert ran(running_server, 4) == added("connect")
        ws.send('420["order", "tea"]')
        (answer,) = json.loads(receive(ws, "430"))
        assert answer.split(",") == [*added("connect"), *added("tea")]
        ws.close()
    assert "discarded" not in running_server.log.read_text()


@pytest.fixture
def websocket(app: Flask, tasks: BackgroundTasks) -> Iterator[list[str]]:
    """An application with a WebSocket route, served as for one, and what has run."""
    log: list[str] = []

    @app.route("/", websocket=True)
    def view() -> str:
        tasks.add_task(log.append, "first")
        bgadapters.add_task(log.append, "second")
        assert bgadapters.drain(10) == []
        log.append("view")
        queue.append(request.environ["bgadapters.queue"])
        if request.args:
            raise ConnectionError
        return ""

    queue: list[Any] = []
    yield log
    assert log == ["first", "second", "view"]
    with pytest.raises(QueueClosedError):
        queue[0].add_task(print)
    with pytest.raises(NoResponseError):
        bgadapters.add_task(print)


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def test_a_route_for_websockets(websocket: list[str], get: Get) -> None:
    assert get("/", headers=UPGRADE).status_code == 200


def test_one_whose_client_has_left(websocket: list[str], get: Get) -> None:
    assert get("/?leaves", headers=UPGRADE).status_code == 500


def test_the_header_alone_makes_no_websocket(app: Flask, tasks: BackgroundTasks, get: Get) -> None:
    log: list[str] = []

    @app.get("/")
    def view() -> str:
        tasks.add_task(log.append, "never")
        bgadapters.add_task(log.append, "never")
        raise LookupError

    assert get(headers={"Upgrade": "websocket"}).status_code == 500
    assert log == []


def test_a_connection_of_gevent_websocket(app: Flask, tasks: BackgroundTasks) -> None:
    log: list[str] = []
    made = {**environ(), "wsgi.websocket": object()}
    with app.request_context(made):
        tasks.add_task(log.append, "first")
        bgadapters.add_task(log.append, "second")
        assert bgadapters.drain(10) == []
    assert log == ["first", "second"]


def test_elsewhere_there_is_no_queue_of_an_event(app: Flask) -> None:
    assert event_queue() is None
    with app.request_context(environ()):
        assert event_queue() is None
    with app.request_context({**environ(), "wsgi.websocket": object()}):
        assert event_queue() is None  # the extension was not initialised
