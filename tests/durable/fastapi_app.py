"""Durable tasks in FastAPI."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from bgadapters.fastapi import BackgroundTasks, init_app
from tests.durable import work

application = FastAPI()
init_app(application, **work.settings())


@application.get("/task")
async def add(request: Request, background_tasks: BackgroundTasks) -> PlainTextResponse:
    """Add a task."""
    return PlainTextResponse(work.add(background_tasks.add_task, request.query_params))
