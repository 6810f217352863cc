"""Checked, never run: FastAPI endpoints and dependencies."""

from typing import assert_type

from fastapi import Depends, FastAPI

import bgadapters
from bgadapters.fastapi import BackgroundTasks, get_background_tasks, init_app

app = FastAPI()
init_app(app, max_workers=8)
init_app(app, max_worker=8)  # type: ignore[call-arg]


def write_notification(email: str, message: str = "") -> None: ...


@app.post("/{email}")
async def view(email: str, background_tasks: BackgroundTasks) -> str:
    assert_type(background_tasks, bgadapters.BackgroundTasks)
    background_tasks.add_task(write_notification, email, message="hello")
    background_tasks.add_task(write_notification, 1)  # type: ignore[arg-type]
    background_tasks.options(always=True).add_task(write_notification, 1)  # type: ignore[arg-type]
    return email


def dependency(
    tasks: BackgroundTasks, same: bgadapters.BackgroundTasks = Depends(get_background_tasks)
) -> None:
    assert_type(tasks, bgadapters.BackgroundTasks)
    same.add_task(write_notification)  # type: ignore[call-arg]
