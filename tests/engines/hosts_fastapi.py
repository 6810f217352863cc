"""FastAPI with every engine; a worker of each imports this module."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from bgadapters import EngineUnavailableError, task_options
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.engines import hosts_engines, work
from tests.engines.hosts_engines import celery_app, huey, procrastinate_app

__all__ = ["app", "celery_app", "huey", "procrastinate_app"]

app = FastAPI()
init_app(app, **hosts_engines.settings())


@task_options()
async def report(gate: str) -> None:
    """Say where it ran, once there is such a file."""
    work.wait(gate)
    work.say("scope", "fastapi")


@app.get("/add")
async def add(request: Request, background_tasks: BackgroundTasks) -> PlainTextResponse:
    hosts_engines.add(background_tasks, report, request.query_params)
    return PlainTextResponse("added")


@app.exception_handler(EngineUnavailableError)
async def unavailable(_: Request, exc: Exception) -> PlainTextResponse:
    return PlainTextResponse(f"handled: {exc}", status_code=503)
