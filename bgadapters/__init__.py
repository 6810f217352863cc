"""Background tasks that run after the response, on every server.

The public API of the package. It imports no framework: each shim is imported by its
own name (``bgadapters.fastapi``, ``bgadapters.django``, ``bgadapters.flask``,
``bgadapters.wsgi``, ``bgadapters.asgi``). Authors of shims import `bgadapters.adapters`.
"""

from bgadapters.core.api.current import add_task, flush
from bgadapters.core.api.enqueue import enqueue, forget
from bgadapters.core.api.running import current_task
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.app.stats import Stats, stats
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
from bgadapters.core.model.event import TaskEvent
from bgadapters.core.model.marks import task_options
from bgadapters.core.model.middleware import TaskInfo, TaskMiddleware
from bgadapters.core.model.options import TaskOptions
from bgadapters.core.model.outcome import ResponseOutcome
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
