"""Whether FastAPI's own telemetry traces a request; then its tasks are traced as FastAPI's are."""

from __future__ import annotations

from starlette.types import Scope

from bgadapters.adapters import BackgroundTasks

TELEMETRY = "fastapi.telemetry"
"""Where the scope of a request has FastAPI's telemetry, if that traces it."""


def trace_tasks(scope: Scope, queue: BackgroundTasks) -> None:
    """Have FastAPI open its span around the tasks of a queue, if it traces the request.

    Args:
        scope: that of the request, in which FastAPI keeps its telemetry.
        queue: that of the request.
    """
    if scope.get(TELEMETRY) is not None:
        from bgadapters.fastapi.spans import trace_tasks_of

        trace_tasks_of(queue)
