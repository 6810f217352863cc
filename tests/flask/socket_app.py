"""An application with WebSockets, in two orders of set-up: the module's name is in ``ORDER``."""

from __future__ import annotations

import os
import threading
from typing import Any

from flask import Flask, g, has_request_context
from flask_sock import Sock
from flask_socketio import SocketIO

import bgadapters
from bgadapters.adapters import current_queue
from bgadapters.flask import BackgroundTasks

app = Flask(__name__)
background_tasks = BackgroundTasks()
if os.environ["ORDER"] == "tasks first":
    background_tasks.init_app(app)
socketio = SocketIO(
    app, async_mode="threading", async_handlers=os.environ.get("HANDLERS") == "threads"
)
sock = Sock(app)
if os.environ["ORDER"] == "tasks last":
    background_tasks.init_app(app)

ran: list[str] = []
changed = threading.Condition()


def note(what: str) -> None:
    assert not has_request_context()
    assert "note" not in g
    with changed:
        ran.append(what)
        changed.notify_all()


async def anote(what: str) -> None:
    note(what)


def wait_for(count: int) -> list[str]:
    with changed:
        assert changed.wait_for(lambda: len(ran) >= count, 20), ran
        return list(ran)


def add(what: str) -> None:
    background_tasks.add_task(note, f"{what} 1")
    background_tasks.options(name="second").add_task(anote, f"{what} 2")
    bgadapters.add_task(note, f"{what} 3")
    current_queue().options(name="fourth").add_task(note, f"{what} 4")


@app.get("/ran/<int:count>")
def tell(count: int) -> list[str]:
    return wait_for(count)


@sock.route("/echo")  # type: ignore[untyped-decorator]  # it has no types
def echo(ws: Any) -> None:
    while (text := ws.receive()) != "bye":
        add(text)
        ws.send(",".join(wait_for(4)))
    background_tasks.add_task(note, "left")
    if os.environ.get("FAILS"):
        raise LookupError("after all")


@socketio.on("connect")  # type: ignore[untyped-decorator]  # it has no types
def connected() -> None:
    add("connect")


@socketio.on("order")  # type: ignore[untyped-decorator]  # it has no types
def order(what: str) -> str:
    add(what)
    return ",".join(wait_for(8))
