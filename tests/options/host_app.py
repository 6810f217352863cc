"""A Flask and a FastAPI application with a debounce and a limit, for servers."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from fastapi import FastAPI
from flask import Flask

from bgadapters import Retry, TaskEvent, current_task, fastapi
from bgadapters.flask import BackgroundTasks

log: list[str] = []
lock = threading.Lock()
running = {"now": 0, "peak": 0}
SETTINGS: Any = {"concurrency": {"supplier": 2}, "on_event": lambda event: note(event)}


def note(event: TaskEvent) -> None:
    if event.outcome is not None:
        log.append(f"{event.name} {event.kind}")


def enter() -> None:
    with lock:
        running["now"] += 1
        running["peak"] = max(running.values())


def leave() -> None:
    with lock:
        running["now"] -= 1


def order() -> None:
    enter()
    time.sleep(0.05)
    leave()


async def aorder() -> None:
    enter()
    await asyncio.sleep(0.05)
    leave()


def flaky(name: str) -> None:
    task = current_task()
    assert task is not None
    print(f"{name} attempt {task.attempt}", flush=True)
    log.append(f"{name} attempt {task.attempt}")
    if task.attempt == 1:
        raise OSError("busy")


async def aflaky(name: str) -> None:
    await asyncio.sleep(0)
    flaky(name)


def throttled() -> None:
    log.append("throttled")
    raise Retry("429", delay=3600)


def add(background_tasks: Any, what: str) -> dict[str, Any]:
    kind, _, name = what.partition("-")
    if kind == "debounce":
        options = background_tasks.options(key="reindex", delay=0.5, name=name)
        options.add_task(int)
    elif kind == "limit":
        limited = background_tasks.options(concurrency="supplier", name=name)
        limited.add_task(order)
        limited.add_task(aorder)
    elif kind == "retry":
        again = background_tasks.options(retries=1, backoff=lambda *_: 3600, max_backoff=3600)
        again.add_task(flaky, f"{name} sync")
        again.add_task(aflaky, f"{name} async")
    elif kind == "asks":
        background_tasks.options(retries=1, name=name).add_task(throttled)
    return {"log": list(log), "peak": running["peak"]}


flask_app = Flask(__name__)
background_tasks = BackgroundTasks(flask_app, **SETTINGS)
fastapi_app = FastAPI()
fastapi.init_app(fastapi_app, **SETTINGS)


@flask_app.get("/<what>")
def flask_view(what: str) -> dict[str, Any]:
    return add(background_tasks, what)


@fastapi_app.get("/{what}")
async def fastapi_view(what: str, background_tasks: fastapi.BackgroundTasks) -> dict[str, Any]:
    return add(background_tasks, what)
