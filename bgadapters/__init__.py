"""Background tasks that run after the response, on every server.

The public API of the package. It imports no framework: each shim is imported by its
own name (``bgadapters.fastapi``, ``bgadapters.django``, ``bgadapters.flask``,
``bgadapters.wsgi``, ``bgadapters.asgi``). Authors of shims import `bgadapters.adapters`.
"""

from typing import TYPE_CHECKING, Any

from bgadapters.core.api.current import add_task, flush
from bgadapters.core.api.enqueue import enqueue, forget
from bgadapters.core.api.running import current_task
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.model.errors import (
    BackgroundTasksError,
    EngineUnavailableError,
    NoResponseError,
    NoRetry,
    NotPortableError,
    QueueClosedError,
    QueueFullError,
    RequestScopedWarning,
    Retry,
    SettingsError,
    StoreUnavailableError,
)
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.marks import task_options
from bgadapters.core.model.options import TaskOptions
from bgadapters.core.model.outcome import ResponseOutcome

if TYPE_CHECKING:
    from bgadapters.core.app.stats import Stats, stats
    from bgadapters.core.model.event import TaskEvent
    from bgadapters.core.model.middleware import TaskInfo, TaskMiddleware
    from bgadapters.core.process.shutdown import adrain, drain

__all__ = [
    "BackgroundTasks",
    "BackgroundTasksError",
    "EngineUnavailableError",
    "NoResponseError",
    "NoRetry",
    "NotPortableError",
    "QueueClosedError",
    "QueueFullError",
    "RequestScopedWarning",
    "ResponseOutcome",
    "Retry",
    "SettingsError",
    "Stats",
    "StoreUnavailableError",
    "TaskEvent",
    "TaskInfo",
    "TaskMiddleware",
    "TaskOptions",
    "add_task",
    "adrain",
    "current_task",
    "drain",
    "enqueue",
    "flush",
    "forget",
    "stats",
    "task_options",
]

__version__ = "0.1.0"

_WHERE_THEY_ARE_USED = {
    "Stats": "app.stats",
    "TaskEvent": "model.event",
    "TaskInfo": "model.middleware",
    "TaskMiddleware": "model.middleware",
    "adrain": "process.shutdown",
    "drain": "process.shutdown",
    "stats": "app.stats",
}
"""Views do without these names, and without what runs tasks: it is imported when it is needed."""

if not TYPE_CHECKING:  # to a type checker it would say that there is any name

    def __getattr__(name: str) -> Any:
        if name not in _WHERE_THEY_ARE_USED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_whole(f"bgadapters.core.{_WHERE_THEY_ARE_USED[name]}"), name)
