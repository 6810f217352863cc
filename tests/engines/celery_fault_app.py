"""Flask and Celery, as servers and workers run them that are killed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from flask import Flask, request

from bgadapters import task_options
from bgadapters.engines.celery import CeleryEngine
from bgadapters.flask import BackgroundTasks
from tests.durable.work import STORE, write
from tests.engines.celery_worker import BROKER, FAULTS, QUEUE, make_app

HOW: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"send": "before_response"},
    "durable": {"durable": True},
}

celery_app = make_app(os.environ[BROKER], os.environ[QUEUE], Path(os.environ[FAULTS]))
engine = CeleryEngine(celery_app, patience=20.0)

app = Flask(__name__)
background_tasks = BackgroundTasks(
    app, engines={"heavy": engine}, store=os.environ[STORE], drain_timeout=15.0
)


@task_options()
def run(name: str, seconds: float) -> None:
    """Take so long."""
    write("start", name)
    time.sleep(seconds)
    write("end", name)


@app.get("/task")
def add() -> str:
    """Add a task, in the way that is asked for."""
    options: Any = HOW[request.args["how"]]
    queue = background_tasks.options(engine="heavy", **options)
    queue.add_task(run, request.args["name"], float(request.args.get("seconds", "0.01")))
    return str(os.getpid())
