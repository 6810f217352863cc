"""Background tasks that run after the response, on every server.

The face of the package. It imports no framework: each shim is imported by its
own name (``bgadapters.fastapi``, ``bgadapters.django``, ``bgadapters.flask``,
``bgadapters.wsgi``, ``bgadapters.asgi``).
"""

from bgadapters.core.current import add_task
from bgadapters.core.drain import adrain, drain
from bgadapters.core.events import TaskEvent
from bgadapters.core.exceptions import (
    BackgroundTasksError,
    NoResponseError,
    NotPortableError,
    QueueClosedError,
    QueueFullError,
    SettingsError,
)
from bgadapters.core.queue import BackgroundTasks

__all__ = [
    "BackgroundTasks",
    "BackgroundTasksError",
    "NoResponseError",
    "NotPortableError",
    "QueueClosedError",
    "QueueFullError",
    "SettingsError",
    "TaskEvent",
    "add_task",
    "adrain",
    "drain",
]

__version__ = "0.1.0"
