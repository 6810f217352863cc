"""A Flask and a FastAPI application whose views send a task: ours after, others in the view.

``BENCH_ENGINE`` says where: ``huey``, ``celery`` or ``procrastinate``; ``BENCH_PLACE`` is a file, a
broker or a database. Nobody runs the tasks: what is measured is what a request costs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from flask import Flask

from benchmarks.work import noop
from bgadapters.fastapi import BackgroundTasks as Injected
from bgadapters.fastapi import init_app
from bgadapters.flask import BackgroundTasks

PLACE = os.environ["BENCH_PLACE"]
QUEUE = "bgadapters-bench-engines"


def _huey() -> tuple[Any, Callable[[], object]]:
    from huey import SqliteHuey
    from huey.serializer import SignedSerializer

    from bgadapters.engines.huey import HueyEngine

    huey = SqliteHuey(QUEUE, filename=PLACE, serializer=SignedSerializer("benchmark"))
    return HueyEngine(huey), huey.task()(noop)


def _celery() -> tuple[Any, Callable[[], object]]:
    from celery import Celery

    from bgadapters.engines.celery import CeleryEngine

    app = Celery(QUEUE, broker=PLACE)
    app.conf.update(task_ignore_result=True, task_default_queue=QUEUE)
    task: Any = app.task(noop)
    return CeleryEngine(app), task.delay


def _procrastinate() -> tuple[Any, Callable[[], object]]:
    from procrastinate import App, SyncPsycopgConnector

    from bgadapters.engines.procrastinate import ProcrastinateEngine

    app = App(connector=SyncPsycopgConnector(conninfo=PLACE))
    engine = ProcrastinateEngine(app)
    app.open()
    return engine, app.task(noop).defer


engine, in_the_view = {"huey": _huey, "celery": _celery, "procrastinate": _procrastinate}[
    os.environ["BENCH_ENGINE"]
]()
SETTINGS: dict[str, Any] = {
    "engines": {"bench": engine},
    "task_modules": [noop.__module__],
    "defaults": {"engine": "bench"},
}

flask_app = Flask(__name__)
flask_tasks = BackgroundTasks(flask_app, **SETTINGS)


@flask_app.get("/none")
def none() -> str:
    return "sent"


@flask_app.get("/ours")
def ours() -> str:
    flask_tasks.add_task(noop)
    return "sent"


@flask_app.get("/theirs")
def theirs() -> str:
    in_the_view()
    return "sent"


fastapi_app = FastAPI()
init_app(fastapi_app, **SETTINGS)


@fastapi_app.get("/none")
def none_() -> str:
    return "sent"


@fastapi_app.get("/ours")
def ours_(background_tasks: Injected) -> str:
    background_tasks.add_task(noop)
    return "sent"


@fastapi_app.get("/theirs")
def theirs_() -> str:
    """In a thread, as FastAPI runs plain functions: the engines' calls block."""
    in_the_view()
    return "sent"
