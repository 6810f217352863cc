"""A Flask application whose tasks go to Huey, for tests that kill its processes."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request

from bgadapters.engines.huey import HueyEngine
from bgadapters.flask import BackgroundTasks
from tests.engines import huey_app, work

application = Flask(__name__)
background_tasks = BackgroundTasks(
    application,
    **work.settings(
        engines={
            "it": HueyEngine(
                huey_app.huey, timeout=float(os.environ.get(huey_app.TIMEOUT, "5")), patience=30.0
            )
        },
        store=os.environ.get(huey_app.STORE),
    ),
)


@application.get("/task")
def add() -> str:
    """Add a task; answer with this process."""
    query = request.args
    options: Any = {"engine": "it", "durable": "durable" in query}
    if "send" in query:
        options["send"] = query["send"]
    background_tasks.options(**options).add_task(work.note, query["name"])
    return str(os.getpid())
