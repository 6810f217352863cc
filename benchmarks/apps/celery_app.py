"""The tasks for Celery's worker, and the count of them, which it keeps in Redis."""

from __future__ import annotations

import os
from typing import Any

import redis  # pyright: ignore[reportMissingImports]
from celery import Celery  # pyright: ignore[reportMissingImports]

from benchmarks import work

REDIS = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/13")
"""A database that nothing else uses; its queue and its count are deleted."""
_COUNT = "bgadapters-bench-finished"

app = Celery("benchmarks.apps.celery_app", broker=REDIS)
app.conf.update(task_ignore_result=True, task_default_queue="bgadapters-bench")
_store: Any = redis.Redis.from_url(REDIS)


def is_there() -> bool:
    """Whether Redis answers; then forget what an earlier run has left."""
    try:
        _store.delete(_COUNT, "bgadapters-bench")
    except redis.ConnectionError:
        return False
    return True


def finished() -> int:
    """The tasks that have finished."""
    return int(_store.get(_COUNT) or 0)


def nothing() -> None:
    _store.incr(_COUNT)


def sleep() -> None:
    work.sleep()
    _store.incr(_COUNT)


def compute() -> None:
    work.compute()
    _store.incr(_COUNT)


TASKS: dict[str, Any] = {func.__name__: app.task(func) for func in (nothing, sleep, compute)}
