"""The FastAPI application, with workers in which nobody looks for tasks that hold the lock."""

from __future__ import annotations

from benchmarks.apps.fastapi_app import app
from benchmarks.apps.unwatched import unwatch
from bgadapters.adapters import default_runtime

__all__ = ["app"]

unwatch(default_runtime())
