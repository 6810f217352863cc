"""Flask and Celery in one module, which the worker imports as well."""

from __future__ import annotations

import os

from celery import Celery
from flask import Flask, current_app, request

from bgadapters import task_options
from bgadapters.engines.celery import CeleryEngine
from bgadapters.flask import BackgroundTasks
from tests.engines import work
from tests.engines.celery_worker import BROKER, QUEUE

celery_app = Celery("shop", broker=os.environ[BROKER], set_as_current=False)
celery_app.conf.task_default_queue = os.environ[QUEUE]
celery_app.conf.broker_connection_retry_on_startup = True

app = Flask("flask")
background_tasks = BackgroundTasks(app, engines={"heavy": CeleryEngine(celery_app)})


@task_options()
def greet(name: str) -> None:
    """Say who was greeted, and by which application."""
    work.say("ran", f"{name} in {current_app.name}")


@app.get("/add")
def add() -> str:
    background_tasks.options(engine="heavy").add_task(greet, request.args["name"])
    return "added"
