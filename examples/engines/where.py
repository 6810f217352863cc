"""Where the tasks of the examples run: one environment variable, ``ENGINE``.

ENGINE=local     in the process that serves
ENGINE=process   in a pool of processes beside it
ENGINE=huey      in a worker of Huey's, over a file of SQLite: HUEY_FILE (default: huey.db)
ENGINE=celery    in a worker of Celery's, over a broker: CELERY_BROKER (default: RabbitMQ here)
"""

from __future__ import annotations

import os
from typing import Any

ENGINE = os.environ.get("ENGINE", "local")
engines: dict[str, Any] = {}

if ENGINE == "huey":
    from huey import SqliteHuey
    from huey.serializer import SignedSerializer

    from bgadapters.engines.huey import HueyEngine

    # Huey's messages are pickles: whoever may write to the file must not choose what is called.
    secret = os.environ.get("HUEY_SECRET", "change me")
    huey = SqliteHuey(
        filename=os.environ.get("HUEY_FILE", "huey.db"), serializer=SignedSerializer(secret)
    )
    engines["huey"] = HueyEngine(huey)

if ENGINE == "celery":
    from celery import Celery

    from bgadapters.engines.celery import CeleryEngine

    celery_app = Celery("orders", broker=os.environ.get("CELERY_BROKER", "amqp://"))
    celery_app.conf.task_default_queue = os.environ.get("CELERY_QUEUE", "orders")
    engines["celery"] = CeleryEngine(celery_app)
