"""A Flask and a FastAPI application whose views send a task: ours after, others in the view.

``BENCH_ENGINE`` says where: ``process``, ``huey``, ``celery`` or ``procrastinate``; ``BENCH_PLACE``
is a file, a broker or a database. Nobody runs the tasks, but for processes: what is measured is
what a request costs. ``/waiting`` tells how many tasks are to be sent yet, or run by processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from fastapi import FastAPI
from flask import Flask

from benchmarks.work import noop
from bgadapters import stats
from bgadapters.fastapi import BackgroundTasks as Injected
from bgadapters.fastapi import init_app
from bgadapters.flask import BackgroundTasks

PLACE = os.environ["BENCH_PLACE"]
QUEUE = "bgadapters-bench-engines"


under_way: set[Future[None]] = set()
"""What an executor of processes has been given and has not done."""


def _process() -> tuple[Any, Callable[[], object]]:
    import multiprocessing  # spawned, since a server has threads
    from concurrent.futures import ProcessPoolExecutor

    from bgadapters.engines.process import ProcessEngine

    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))

    def submit() -> None:
        under_way.add(future := pool.submit(noop))
        future.add_done_callback(under_way.discard)

    return ProcessEngine(max_processes=2), submit


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


_ENGINES = {
    "process": _process,
    "huey": _huey,
    "celery": _celery,
    "procrastinate": _procrastinate,
}
engine, in_the_view = _ENGINES[os.environ["BENCH_ENGINE"]]()
SETTINGS: dict[str, Any] = {
    "engines": {"bench": engine},
    "task_modules": [noop.__module__],
    "defaults": {"engine": "bench"},
}


def waiting() -> int:
    """The tasks that are still to be sent, or to be run by processes."""
    return len(under_way) + sum(each.pending + each.running for each in stats())


flask_app = Flask(__name__)
flask_tasks = BackgroundTasks(flask_app, **SETTINGS)


@flask_app.get("/waiting")
def waiting_() -> str:
    return str(waiting())


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


@fastapi_app.get("/waiting")
def waiting__() -> int:
    return waiting()


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
