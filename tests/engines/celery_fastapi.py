"""FastAPI and Celery in one module, which the worker imports as well."""

from __future__ import annotations

import os

from celery import Celery
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from bgadapters import task_options
from bgadapters.engines.celery import CeleryEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.engines import work
from tests.engines.celery_worker import BROKER, QUEUE

celery_app = Celery("shop", broker=os.environ[BROKER], set_as_current=False)
celery_app.conf.task_default_queue = os.environ[QUEUE]
celery_app.conf.broker_connection_retry_on_startup = True

app = FastAPI()
init_app(app, engines={"heavy": CeleryEngine(celery_app)})


@task_options()
async def greet(name: str) -> None:
    """Say who was greeted."""
    work.say("ran", f"{name} in fastapi")


@app.get("/add")
async def add(name: str, background_tasks: BackgroundTasks) -> PlainTextResponse:
    background_tasks.options(engine="heavy").add_task(greet, name)
    return PlainTextResponse("added")
