"""A Flask application behind several workers, with the numbers of its tasks."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flask import Flask
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bgadapters.flask import BackgroundTasks
from bgadapters.telemetry.prometheus import instrument
from tests.telemetry.lines import put

instrument()
app = Flask(__name__)
tasks = BackgroundTasks(app, max_workers=600)


def hang() -> None:
    put("began", pid=os.getpid())
    while not Path(os.environ["MAY_END"]).exists():
        time.sleep(0.01)
    put("ended", pid=os.getpid())


@app.get("/hang")
def view() -> str:
    tasks.add_task(hang)
    return str(os.getpid())


@app.get("/metrics")
def metrics() -> tuple[bytes, dict[str, str]]:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), {"Content-Type": CONTENT_TYPE_LATEST}
