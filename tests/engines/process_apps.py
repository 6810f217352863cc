"""A Flask, a FastAPI and a Django application whose views compute elsewhere, for servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from flask import Flask

from bgadapters import fastapi
from bgadapters.flask import BackgroundTasks
from tests.engines import process_work as work

NOTES = Path(os.environ.get("PROCESS_NOTES", os.devnull))
SETTINGS: Any = {"handle_sigterm": True}


def add(background_tasks: Any, what: str) -> dict[str, int]:
    if what == "burn":
        background_tasks.options(engine="process").add_task(work.note_and_burn, str(NOTES), 1.0)
    elif what == "hang":
        background_tasks.options(engine="process").add_task(work.keep_the_lock, str(NOTES))
    return {"pid": os.getpid()}


flask_app = Flask(__name__)
background_tasks = BackgroundTasks(flask_app, **SETTINGS)
fastapi_app = FastAPI()
fastapi.init_app(fastapi_app, **SETTINGS)


@flask_app.get("/<what>")
def flask_view(what: str) -> dict[str, int]:
    return add(background_tasks, what)


@fastapi_app.get("/{what}")
async def fastapi_view(what: str, background_tasks: fastapi.BackgroundTasks) -> dict[str, int]:
    return add(background_tasks, what)
