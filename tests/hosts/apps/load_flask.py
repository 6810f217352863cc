"""What the tests of load ask of Flask: a task a request, and what the process holds."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request

from bgadapters import QueueFullError
from bgadapters.flask import BackgroundTasks
from tests.hosts import journal, work

application = Flask(__name__)
application.config.update(
    {f"BACKGROUND_TASKS_{k}": v for k, v in work.settings_from_environment().items()}
)
background_tasks = BackgroundTasks(application)


@application.get("/task")
def add() -> str:
    return journal.add(background_tasks, request.args)


@application.get("/pid")
def pid() -> str:
    return str(os.getpid())


@application.get("/state")
def state() -> dict[str, Any]:
    return journal.state()


@application.get("/peak")
def peak() -> str:
    return str(journal.peak())


@application.errorhandler(QueueFullError)
def full(_: QueueFullError) -> tuple[str, int]:
    return "full", 503


journal.say_loaded()
