"""Numbers about the applications of a process, at this moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from bgadapters.core.app.runtime import Runtime, runtimes
from bgadapters.core.model.record import Outcome


class Stats(NamedTuple):
    """The tasks of one application in this process, at one moment.

    Attributes:
        pending: tasks that wait for their turn. Those that wait for a later time or for the end
            of a transaction are not among them, nor are those whose response is not complete.
        running: tasks that run.
        capacity: how many tasks may wait or run (``max_pending``).
        workers_busy: worker threads that are at work.
        workers: how many worker threads there may be (``max_workers``).
        oldest_wait: seconds since the first of those that are pending was added; 0.0 if none is.
        totals: how many tasks have ended since the process began, by outcome: ``"succeeded"``,
            ``"failed"``, ``"discarded"``, ``"replaced"``, ``"abandoned"``, ``"sent"``. Those of a
            response that succeed are counted when its last one has ended.
    """

    pending: int
    running: int
    capacity: int
    workers_busy: int
    workers: int
    oldest_wait: float
    totals: Mapping[Outcome, int]


def stats() -> list[Stats]:
    """Return a snapshot of each application of this process, in the order they were set up in.

    It is cheap enough for a health check, or to be called each second under load. It waits for
    nothing that tasks do.
    """
    return [_stats_of(runtime) for runtime in runtimes()]


def _stats_of(runtime: Runtime) -> Stats:
    now = time.monotonic()
    pending = running = 0
    oldest = now
    for batch in runtime.in_flight.live():
        if batch.is_held or (batch.due is not None and not batch.capacity):
            continue
        running += batch.running is not None
        waiting = len(batch)
        if waiting:
            pending += waiting
            added = now if batch.added is None else batch.added
            oldest = min(oldest, added if batch.due is None else max(added, batch.due))
    settings, pool = runtime.settings, runtime.scheduler.pool
    return Stats(
        pending=pending,
        running=running,
        capacity=settings.max_pending,
        workers_busy=pool.busy,
        workers=settings.max_workers,
        oldest_wait=now - oldest,
        totals={"succeeded": runtime.in_flight.succeeded, **runtime.events.totals.counts()},
    )
