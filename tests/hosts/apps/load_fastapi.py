"""What the tests of load ask of FastAPI: a task a request, and what the process holds."""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from bgadapters import QueueFullError
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.hosts import journal, work

application = FastAPI()
_GIVEN: Any = {name.lower(): value for name, value in work.settings_from_environment().items()}
init_app(application, **_GIVEN)


@application.get("/task")
async def add(request: Request, background_tasks: BackgroundTasks) -> PlainTextResponse:
    return PlainTextResponse(journal.add(background_tasks, request.query_params))


@application.get("/pid")
async def pid() -> int:
    return os.getpid()


@application.get("/state")
async def state() -> dict[str, Any]:
    return journal.state()


@application.get("/peak")
async def peak() -> int:
    return journal.peak()


@application.exception_handler(QueueFullError)
def full(_: Request, __: Exception) -> PlainTextResponse:
    return PlainTextResponse("full", 503)


journal.say_loaded()
