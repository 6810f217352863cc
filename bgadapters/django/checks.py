"""System checks, for what would not fail at start-up but surprise later."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks

MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"


def check_middleware(*_: Any, **__: Any) -> list[checks.CheckMessage]:
    """W001: the middleware is listed more than once."""
    times = settings.MIDDLEWARE.count(MIDDLEWARE)
    if times < 2:
        return []
    return [
        checks.Warning(
            f"{MIDDLEWARE} is listed {times} times in MIDDLEWARE.",
            hint="List it once: all of them share one queue a request.",
            id="bgadapters.W001",
        )
    ]


def check_databases(*_: Any, **__: Any) -> list[checks.CheckMessage]:
    """W002: a database that the threads which run tasks cannot see."""
    return [
        checks.Warning(
            f"The database {alias!r} is SQLite in memory, which each thread has for itself.",
            hint="Sync tasks run in worker threads and find it empty. Use a file.",
            id="bgadapters.W002",
        )
        for alias, database in settings.DATABASES.items()
        if database.get("ENGINE", "").endswith(".sqlite3")
        and str(database.get("NAME", "")).startswith((":memory:", "file::memory:"))
    ]


def check_backend(alias: str) -> list[checks.CheckMessage]:
    """W003: a backend for tasks is used without its application; asked by the backend itself."""
    if apps.is_installed("bgadapters.django"):
        return []
    return [
        checks.Warning(
            f"The backend of TASKS[{alias!r}] is used without its application.",
            hint="Add 'bgadapters.django' to INSTALLED_APPS: it checks BACKGROUND_TASKS at "
            "start-up, and lets tasks finish where SIGTERM would kill the process.",
            id="bgadapters.W003",
        )
    ]
