"""A FastAPI application: one view, with FastAPI's tasks, this library's, or none."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
from fastapi import Depends, FastAPI

from benchmarks import work
from bgadapters.fastapi import BackgroundTasks

TASKS: dict[str, Any] = {
    "nothing": work.nothing,
    "anothing": work.anothing,
    "sleep": work.sleep,
    "compute": work.compute,
}

app = FastAPI()


@app.get("/finished")
async def finished() -> int:
    return work.finished()


@app.get("/none")
async def none() -> dict[str, str]:
    return {"message": "sent"}


@app.get("/bgadapters/{task}")
async def ours(task: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(TASKS[task])
    return {"message": "sent"}


async def empty() -> None:
    """Do nothing, as the least that a dependency can do."""


@app.get("/depends/{task}")
async def depends(
    task: str, background_tasks: fastapi.BackgroundTasks, _: Annotated[None, Depends(empty)]
) -> dict[str, str]:
    background_tasks.add_task(TASKS[task])
    return {"message": "sent"}


@app.get("/fastapi/{task}")
async def theirs(task: str, background_tasks: fastapi.BackgroundTasks) -> dict[str, str]:
    background_tasks.add_task(TASKS[task])
    return {"message": "sent"}
