"""Flask with every engine; a worker of each imports this module."""

from __future__ import annotations

from typing import Any

from flask import Flask, current_app, request

from bgadapters import EngineUnavailableError, task_options
from bgadapters.flask import BackgroundTasks
from tests.engines import hosts_engines, work
from tests.engines.hosts_engines import celery_app, huey, procrastinate_app

__all__ = ["app", "celery_app", "huey", "procrastinate_app"]

app = Flask("of the tests")
background_tasks = BackgroundTasks(app, **hosts_engines.settings(f"{__name__}:begin"))


def begin() -> Any:
    """What a process of the engine of processes enters around tasks."""
    return app.app_context


@task_options()
def report(gate: str) -> None:
    """Say where it ran, once there is such a file."""
    work.wait(gate)
    work.say("scope", current_app.name)


@app.get("/add")
def add() -> str:
    hosts_engines.add(background_tasks, report, request.args)
    return "added"


@app.errorhandler(EngineUnavailableError)
def unavailable(exc: Exception) -> tuple[str, int]:
    return f"handled: {exc}", 503
