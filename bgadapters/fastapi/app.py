"""What needs the application: settings, a queue for every request, drain at shutdown."""

from __future__ import annotations

from typing import Any, Unpack

from fastapi import FastAPI
from starlette.middleware import Middleware

from bgadapters.adapters import Runtime, SettingNames, parse_settings
from bgadapters.asgi import BackgroundTasksMiddleware
from bgadapters.fastapi.telemetry import trace_tasks


class _Middleware(BackgroundTasksMiddleware):
    """Traces what is added to its queues where FastAPI does, in views without the dependency."""

    on_open = staticmethod(trace_tasks)


def init_app(app: FastAPI, **settings: Unpack[SettingNames]) -> None:
    """Configure background tasks for an application. Call it once, before it serves.

    The dependency works without. This adds the settings; a queue for every request, so
    that ``bgadapters.add_task`` works in views that do not ask for one; and a drain at
    shutdown, before the exit code of the application's own ``lifespan``.

    Args:
        app: the application.
        settings: see ``Settings``.

    Raises:
        SettingsError: an unknown or impossible setting.
        RuntimeError: called twice, or after the application has started.
    """
    added: list[Any] = [middleware.cls for middleware in app.user_middleware]
    if any(
        isinstance(each, type) and issubclass(each, BackgroundTasksMiddleware) for each in added
    ):
        raise RuntimeError("init_app() was called for this application already")
    runtime = Runtime(parse_settings(settings))
    runtime.handle_sigterm()  # the middleware is made too late for it
    app.add_middleware(_Middleware, runtime=runtime)
    # Another one inside of all middlewares, those that are added later too: see its class.
    app.user_middleware.append(Middleware(_Middleware, runtime=runtime))
