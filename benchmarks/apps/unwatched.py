"""Applications as they were before anybody looked for tasks that hold the interpreter's lock."""

from __future__ import annotations

from bgadapters.adapters import Runtime
from bgadapters.core.drivers.lock_watch import LockWatch
from bgadapters.core.drivers.threads import ThreadDriver
from bgadapters.core.model.batch import Batch


class NoWatch(LockWatch):
    """Knows of no worker, so that it never looks."""

    def enter(self, batch: Batch) -> int:  # noqa: ARG002
        """Note nothing."""
        return 0


def unwatch(runtime: Runtime) -> None:
    """Have nobody look at the workers of an application."""
    scheduler = runtime.scheduler
    watch = NoWatch(scheduler.turns.judge)
    scheduler.threads = ThreadDriver(scheduler.execution, scheduler.pool, watch)
