"""Two Flask applications with the same view: one with this library, one with all the others.

``application`` passes a request on by the beginning of its path, so that one server serves both
and neither pays for what the other has set up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, Response, jsonify
from flask_executor import Executor  # pyright: ignore[reportMissingImports]

from benchmarks import work
from benchmarks.apps import celery_app
from bgadapters.flask import BackgroundTasks

TASKS: dict[str, Callable[[], None]] = {
    "nothing": work.nothing,
    "sleep": work.sleep,
    "compute": work.compute,
}

background_tasks = BackgroundTasks()


def message() -> Response:
    return jsonify(message="sent")


def make_ours() -> Flask:
    app = Flask(__name__)
    background_tasks.init_app(app)

    @app.get("/bgadapters/<task>")
    def ours(task: str) -> Response:
        background_tasks.add_task(TASKS[task])
        return message()

    @app.get("/bgadapters-idle")
    def idle() -> Response:
        return message()

    return app


def make_theirs() -> Flask:
    app = Flask(__name__)
    executor = Executor(app)

    @app.get("/none")
    def none() -> Response:
        return message()

    @app.get("/close/<task>")
    def in_close(task: str) -> Response:
        response = message()
        response.call_on_close(TASKS[task])
        return response

    @app.get("/thread/<task>")
    def in_a_thread(task: str) -> Response:
        threading.Thread(target=TASKS[task]).start()
        return message()

    @app.get("/executor/<task>")
    def in_flask_executor(task: str) -> Response:
        executor.submit(TASKS[task])
        return message()

    @app.get("/celery/<task>")
    def in_celery(task: str) -> Response:
        celery_app.TASKS[task].delay()
        return message()

    @app.get("/finished")
    def finished() -> Response:
        return jsonify(work.finished())

    @app.get("/finished-celery")
    def finished_celery() -> Response:
        return jsonify(celery_app.finished())

    return app


ours, theirs = make_ours(), make_theirs()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Serve a request of either application."""
    app = ours if environ["PATH_INFO"].startswith("/bgadapters") else theirs
    return app(environ, start_response)
