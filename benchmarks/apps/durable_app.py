"""Applications with a store and without: views with a plain task, a durable one, and an fsync.

Those that are served find the directory of their store in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from flask import Flask, Response, jsonify

from benchmarks import work
from bgadapters.fastapi import BackgroundTasks, init_app
from bgadapters.flask import BackgroundTasks as FlaskTasks

DIRECTORY = "BGADAPTERS_BENCHMARK_DIRECTORY"
PLAIN, ASYNC, DURABLE, SYNCED, FINISHED = "/plain", "/async", "/durable", "/synced", "/finished"
_MODULES = [work.__name__]
_PAGE = bytes(4096)  # what SQLite writes to its log for a task


class Log:
    """A file that is appended to and synced, as the log of a database is.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def sync(self) -> None:
        """Have one more page on the disk."""
        os.write(self._file, _PAGE)
        os.fsync(self._file)


def store_in(directory: str | Path) -> str:
    """Return the URL of a store there, which is synced before each response."""
    return f"sqlite:///{Path(directory).absolute()}/tasks.db"


def make_fastapi(store: str | None = None, log: Log | None = None) -> FastAPI:
    """Return an application of FastAPI."""
    app = FastAPI()
    if store is None:
        init_app(app)
    else:
        init_app(app, store=store, task_modules=_MODULES)

    @app.get(PLAIN)
    async def plain(background_tasks: BackgroundTasks) -> dict[str, str]:
        background_tasks.add_task(work.nothing)
        return {"message": "sent"}

    @app.get(ASYNC)
    async def asynchronous(background_tasks: BackgroundTasks) -> dict[str, str]:
        background_tasks.add_task(work.anothing)
        return {"message": "sent"}

    @app.get(DURABLE)
    async def durable(background_tasks: BackgroundTasks) -> dict[str, str]:
        background_tasks.options(durable=True).add_task(work.nothing)
        return {"message": "sent"}

    @app.get(SYNCED)
    async def synced(background_tasks: BackgroundTasks) -> dict[str, str]:
        background_tasks.add_task(work.nothing)
        assert log is not None
        await run_in_threadpool(log.sync)
        return {"message": "sent"}

    @app.get(FINISHED)
    async def finished() -> int:
        return work.finished()

    return app


def make_flask(store: str | None = None, log: Log | None = None) -> Flask:
    """Return an application of Flask."""
    app = Flask(__name__)
    if store is not None:
        app.config["BACKGROUND_TASKS_STORE"] = store
        app.config["BACKGROUND_TASKS_TASK_MODULES"] = _MODULES
    background_tasks = FlaskTasks(app)

    @app.get(PLAIN)
    def plain() -> Response:
        background_tasks.add_task(work.nothing)
        return jsonify(message="sent")

    @app.get(DURABLE)
    def durable() -> Response:
        background_tasks.options(durable=True).add_task(work.nothing)
        return jsonify(message="sent")

    @app.get(SYNCED)
    def synced() -> Response:
        background_tasks.add_task(work.nothing)
        assert log is not None
        log.sync()
        return jsonify(message="sent")

    @app.get(FINISHED)
    def finished() -> Response:
        return jsonify(work.finished())

    return app


def asgi() -> FastAPI:
    """Return the application that is served by a server of ASGI."""
    directory = Path(os.environ[DIRECTORY])
    return make_fastapi(store_in(directory), Log(directory / "log"))


def wsgi() -> Flask:
    """Return the application that is served by a server of WSGI."""
    directory = Path(os.environ[DIRECTORY])
    return make_flask(store_in(directory), Log(directory / "log"))
