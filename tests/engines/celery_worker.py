"""A Celery app, and the worker of it that the tests start."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from bgadapters import enqueue, task_options
from bgadapters.engines.celery import CeleryEngine
from tests.engines import work

BROKER, QUEUE, DIRECTORY = "TEST_CELERY_BROKER", "TEST_CELERY_QUEUE", "TEST_CELERY_DIRECTORY"
FAULTS = "TEST_CELERY_FAULTS_DIRECTORY"


@task_options()
def add_more() -> None:
    """Add a task to the process of the worker, after this one."""
    enqueue(_more)


def _more() -> None:
    time.sleep(0.5)
    work.say("ran", "more")


def make_app(broker: str, queue: str, directory: Path, **config: Any) -> Celery:
    """Make a Celery app, the same on both sides.

    Args:
        broker: its URL.
        queue: its only queue.
        directory: where results are, and messages if the broker has none.
        config: more settings.
    """
    results = directory / "results"
    results.mkdir(exist_ok=True)
    app = Celery("tests", broker=broker, backend=f"file://{results}", set_as_current=False)
    if broker.startswith("filesystem:"):
        app.conf.broker_transport = "tests.engines.files:Transport"
    app.conf.update(
        broker_transport_options=_transport_options(broker, directory),
        broker_connection_retry_on_startup=True,
        task_default_queue=queue,
        task_queue_max_priority=255,
        task_store_errors_even_if_ignored=True,
        worker_prefetch_multiplier=1,
        **config,
    )

    @app.task(name="tests.own", shared=False)  # type: ignore[untyped-decorator]
    def own(what: str) -> None:
        work.say("own", what)

    return app


def _transport_options(broker: str, directory: Path) -> dict[str, Any]:
    kind = broker.partition(":")[0]
    if kind == "filesystem":
        places = {name: directory / name for name in ("messages", "control")}
        for each in places.values():
            each.mkdir(exist_ok=True)
        messages, control = map(str, places.values())
        return {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": control,
            "polling_interval": 0.02,
        }
    return {"priority_steps": list(range(10))} if kind == "redis" else {"confirm_publish": True}


if DIRECTORY in os.environ:
    app = make_app(os.environ[BROKER], os.environ[QUEUE], Path(os.environ[DIRECTORY]))
    engine = CeleryEngine(app)
    application = work.application(engine)
