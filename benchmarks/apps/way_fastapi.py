"""A FastAPI application with ``init_app``, whose view adds a sync and an async task."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks import work
from benchmarks.apps import recorder
from bgadapters.fastapi import BackgroundTasks, init_app

app = FastAPI()
init_app(app)


@app.get("/task")
async def add(background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(work.nothing)
    background_tasks.add_task(work.anothing)
    return {"message": "sent"}


application = recorder.asgi(app)
