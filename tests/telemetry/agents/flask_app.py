"""Flask under an agent: /ours has our tasks."""

from __future__ import annotations

import os

from tests.telemetry.agents.sinks import start

AGENT = os.environ["AGENT"]
start(AGENT)

from flask import Flask  # noqa: E402

from bgadapters.flask import BackgroundTasks  # noqa: E402
from tests.telemetry.agents.lines_to_add import middlewares  # noqa: E402
from tests.telemetry.agents.work import TASKS  # noqa: E402

app = Flask(__name__)
if AGENT == "elastic":
    from elasticapm.contrib.flask import ElasticAPM  # pyright: ignore[reportMissingImports]

    ElasticAPM(app)
tasks = BackgroundTasks(app, task_middleware=middlewares())


@app.get("/ours/<task>")
def ours(task: str) -> str:
    tasks.add_task(TASKS[task], task)
    return "ok"
