"""Streams that flush, for real servers: each waits for its own task before it goes on.

What its tasks write comes back in the stream, so that it ends only if they have run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from flask import Flask, Response

from bgadapters import ResponseOutcome, add_task, current_task, flush
from bgadapters.fastapi import init_app
from bgadapters.flask import BackgroundTasks

PATIENCE = 10.0  # seconds

_seen: list[tuple[str, ResponseOutcome | None]] = []


def note(what: str) -> None:
    task = current_task()
    assert task is not None
    _seen.append((what, task.response))


async def anote(what: str) -> None:
    note(what)


def stream() -> Iterator[bytes]:
    """The parts of a response: each is made when the task of the one before has run."""
    _seen.clear()
    for number, func in enumerate((note, anote, note)):
        add_task(func, f"part {number}")
        flush()
        deadline = time.monotonic() + PATIENCE
        while len(_seen) <= number and time.monotonic() < deadline:
            time.sleep(0.005)
            yield b" "
        yield f"{_seen[number][0]}\n".encode()
    add_task(note, "the end")


def last() -> str:
    """What the task after the stream has seen of its response."""
    deadline = time.monotonic() + PATIENCE
    while len(_seen) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    what, response = _seen[3]
    return f"{what}: {response and response.status}"


fastapi_app = FastAPI()
init_app(fastapi_app)


@fastapi_app.get("/stream")
def fastapi_stream() -> Any:
    return StreamingResponse(stream())


@fastapi_app.get("/last")
def fastapi_last() -> str:
    return last()


flask_app = Flask("streams")
BackgroundTasks(flask_app)


@flask_app.get("/stream")
def flask_stream() -> Any:
    return Response(stream())


@flask_app.get("/last")
def flask_last() -> str:
    return last()
