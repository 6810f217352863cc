"""FastAPI under an agent: /own has FastAPI's own tasks, /ours has ours."""

from __future__ import annotations

import os

from tests.telemetry.agents.sinks import start

AGENT = os.environ["AGENT"]
start(AGENT)

import fastapi  # noqa: E402

from bgadapters.fastapi import BackgroundTasks, init_app  # noqa: E402
from tests.telemetry.agents.lines_to_add import middlewares  # noqa: E402
from tests.telemetry.agents.work import TASKS  # noqa: E402

app = fastapi.FastAPI()
init_app(app, task_middleware=middlewares())
if AGENT == "elastic":
    from elasticapm.contrib.starlette import (  # pyright: ignore[reportMissingImports]
        ElasticAPM,
        make_apm_client,
    )

    app.add_middleware(ElasticAPM, client=make_apm_client())


@app.get("/own/{task}")
def own(task: str, tasks: fastapi.BackgroundTasks) -> str:
    tasks.add_task(TASKS[task], task)
    return "ok"


@app.get("/ours/{task}")
def ours(task: str, tasks: BackgroundTasks) -> str:
    tasks.add_task(TASKS[task], task)
    return "ok"
