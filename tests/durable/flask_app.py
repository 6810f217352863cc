"""Durable tasks in Flask."""

from __future__ import annotations

from flask import Flask, request

from bgadapters.flask import BackgroundTasks
from tests.durable import work

application = Flask(__name__)
application.config.update({f"BACKGROUND_TASKS_{k.upper()}": v for k, v in work.settings().items()})
background_tasks = BackgroundTasks(application)


@application.get("/task")
def add() -> str:
    """Add a task."""
    return work.add(background_tasks.add_task, request.args)
