"""The extension object: ``add_task`` and ``options`` bound to the current request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Unpack

from flask import Flask, current_app, got_request_exception, has_request_context, request

from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import (
    FrameworkHooks,
    NoResponseError,
    OptionNames,
    Runtime,
    SettingNames,
    WithOptions,
    parse_settings,
)
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware

P = ParamSpec("P")

_NAME = "bgadapters"  # in app.extensions
_PREFIX = "BACKGROUND_TASKS_"


class BackgroundTasks:
    """Background tasks for Flask applications.

    One object serves any number of applications; each has its own settings and
    workers. Tasks run in a fresh application context of their application.

    Args:
        app: the application, or None to call `init_app` later.
        settings: as for `init_app`.
    """

    def __init__(self, app: Flask | None = None, **settings: Unpack[SettingNames]) -> None:
        self._defaults = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **settings: Unpack[SettingNames]) -> None:
        """Set an application up. Call it once for each.

        Args:
            app: the application.
            settings: see ``Settings``. ``app.config["BACKGROUND_TASKS_<NAME>"]``, read
                here, goes before them.

        Raises:
            SettingsError: an unknown or impossible setting.
            RuntimeError: this application was set up already.
        """
        if _NAME in app.extensions:
            raise RuntimeError("BackgroundTasks was initialised for this application already")
        checked = _settings(app, {**self._defaults, **settings})
        runtime = Runtime(checked, FrameworkHooks(scope=app.app_context))
        app.extensions[_NAME] = runtime
        app.wsgi_app = BackgroundTasksMiddleware(app.wsgi_app, runtime=runtime)  # type: ignore[method-assign]
        _discard_on_errors(app)

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call to be made after the response to the current request.

        Args:
            func: a function, coroutine function or any other callable.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            NoResponseError: called outside a request, or `init_app` was not called.
            TypeError, QueueClosedError, QueueFullError: as the core queue's ``add_task``.
        """
        self._queue().add_task(func, *args, **kwargs)

    def options(self, **options: Unpack[OptionNames]) -> WithOptions:
        """Return ``add_task`` with options, for the current request.

        Args:
            always: run the task even when the response failed. Default False.
            name: what logs and events call it. Default: the function's qualified name.

        Raises:
            TypeError: an option that is not accepted, or a value of the wrong type.
            NoResponseError: as `add_task`.
        """
        return self._queue().options(**options)

    def _queue(self) -> Queue:
        if not has_request_context():
            raise NoResponseError(
                "background_tasks was used outside a request, where no response would release the "
                "task. Use 'with bgadapters.BackgroundTasks() as tasks: tasks.add_task(...)' there."
            )
        if _NAME not in current_app.extensions:
            raise NoResponseError(
                f"BackgroundTasks was not initialised for the application {current_app.name!r}: "
                "call background_tasks.init_app(app)."
            )
        queue: Queue | None = request.environ.get(QUEUE_KEY)
        if queue is None:
            raise NoResponseError(
                "this request was not made through the WSGI application (a test_request_context, "
                "for one), so no response would release the task. Use app.test_client()."
            )
        return queue


def _settings(app: Flask, given: Any) -> Any:
    config: dict[str, Any] = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in app.config.items()
        if name.startswith(_PREFIX)
    }
    parse_settings(config, lambda name: f"{_PREFIX}{name.upper()}")
    return parse_settings({**given, **config})


def _discard_on_errors(app: Flask) -> None:
    """Discard a view's tasks when an exception escapes it, though its handler answers.

    ``abort()`` and handled exceptions are known to ``handle_user_exception`` alone, a
    documented method of the application; the signal tells of what is raised later,
    by ``after_request`` functions for one.
    """

    def handle_user_exception(exc: Exception) -> Any:
        _discard(exc)
        return handle(exc)

    def unhandled(_: Flask, exception: Exception, **__: Any) -> None:
        _discard(exception)

    handle = app.handle_user_exception
    app.handle_user_exception = handle_user_exception  # type: ignore[assignment]
    got_request_exception.connect(unhandled, app, weak=False)


def _discard(exception: Exception) -> None:
    queue: Queue | None = request.environ.get(QUEUE_KEY)
    if queue is not None:
        queue.discard(exception)
