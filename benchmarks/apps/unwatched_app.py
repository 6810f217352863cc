"""The FastAPI application, with workers in which nobody looks for tasks that hold the lock."""

from __future__ import annotations

from benchmarks.apps.fastapi_app import app
from bgadapters.adapters import default_runtime
from bgadapters.core.drivers.lock_watch import LockWatch
from bgadapters.core.drivers.threads import ThreadDriver
from bgadapters.core.model.batch import Batch

__all__ = ["app"]


class NoWatch(LockWatch):
    """Knows of no worker, so that it never looks."""

    def enter(self, batch: Batch) -> int:  # noqa: ARG002
        """Note nothing."""
        return 0


_scheduler = default_runtime().scheduler
_scheduler.threads = ThreadDriver(
    _scheduler.execution, _scheduler.pool, NoWatch(_scheduler.turns.judge)
)
