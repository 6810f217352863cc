"""Views beside tasks that compute, which have processes of their own."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks import work
from benchmarks.apps import fastapi_app
from bgadapters import TaskEvent
from bgadapters.fastapi import BackgroundTasks, init_app


def count(event: TaskEvent) -> None:
    """Count here what has run elsewhere."""
    if event.kind == "succeeded":
        work.nothing()


app = FastAPI()
init_app(app, on_event=count)
app.get("/finished")(fastapi_app.finished)
app.get("/none")(fastapi_app.none)


@app.get("/process/compute")
async def compute(background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.options(engine="process").add_task(work.compute)
    return {"message": "sent"}


@app.get("/process/sleep")
async def sleep(background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.options(engine="process").add_task(work.sleep)
    return {"message": "sent"}
