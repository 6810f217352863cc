"""The engines of the applications that servers are started with, in these and in their workers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery
from huey import RedisHuey, SqliteHuey
from huey.serializer import SignedSerializer
from procrastinate import App, PsycopgConnector

from bgadapters.engines.celery import CeleryEngine
from bgadapters.engines.huey import HueyEngine
from bgadapters.engines.process import ProcessEngine
from bgadapters.engines.procrastinate import ProcrastinateEngine
from tests.engines import work
from tests.engines.hosts_where import WHERE, Where

where = Where(*json.loads(os.environ[WHERE]))
_signed = SignedSerializer("of the tests")

huey = SqliteHuey("tests", filename=str(Path(where.directory) / "huey.db"), serializer=_signed)
procrastinate_app = App(connector=PsycopgConnector(conninfo=where.database))


def _celery(port: int) -> Celery:
    app = Celery("tests", broker=f"amqp://guest:guest@127.0.0.1:{port}//", set_as_current=False)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"confirm_publish": True},
        task_default_queue=where.queue,
    )
    return app


celery_app = _celery(5672)


def engines(initializer: str | None) -> dict[str, Any]:
    """Make them. Of each that has a broker there is one whose broker is away."""
    nowhere = f"postgresql://postgres@127.0.0.1:{where.nowhere}/nowhere"
    lost = RedisHuey("tests", host="127.0.0.1", port=where.nowhere, serializer=_signed)
    return {
        "process": ProcessEngine(max_processes=1, initializer=initializer),
        "huey": HueyEngine(huey),
        "celery": CeleryEngine(celery_app),
        "procrastinate": ProcrastinateEngine(procrastinate_app),
        "huey-away": HueyEngine(lost),
        "celery-away": CeleryEngine(_celery(where.nowhere)),
        "procrastinate-away": ProcrastinateEngine(
            App(connector=PsycopgConnector(conninfo=nowhere))
        ),
    }


def settings(initializer: str | None = None) -> dict[str, Any]:
    """What the applications are set up with.

    Args:
        initializer: that of the engine of processes. Default: it needs none.
    """
    return {
        "engines": engines(initializer),
        "on_event": work.tell,
        "task_middleware": [work.OfTenant()],
        "handle_sigterm": True,
    }


def add(queue: Any, func: Any, query: Any) -> None:
    """Add a task as a request asks for it, on behalf of somebody."""
    work.tenant.set("somebody")
    queue.options(engine=query["engine"], send=query["send"]).add_task(func, query["gate"])
