"""The extension object: ``add_task`` and ``options`` bound to the current request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, Unpack

from flask import Flask, current_app, has_app_context, has_request_context, request

from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import (
    FrameworkHooks,
    NoResponseError,
    OptionNames,
    Runtime,
    SettingNames,
    TaskOptions,
    WithOptions,
    current_queue,
    find_with,
    make_own_queues,
    parse_settings,
)
from bgadapters.flask.connections import NAME, event_queue
from bgadapters.flask.context import TaskScope, enter_to_log, task_context
from bgadapters.flask.refusal import refuse
from bgadapters.flask.responses import watch
from bgadapters.wsgi import INSTALLATION, QUEUE_KEY, BackgroundTasksMiddleware

P = ParamSpec("P")

_PREFIX = "BACKGROUND_TASKS_"

find_with(event_queue)


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
        if NAME in app.extensions:
            raise RuntimeError("BackgroundTasks was initialised for this application already")
        checked = _settings(app, {**self._defaults, **settings})
        hooks = FrameworkHooks(
            scope=partial(TaskScope, app),
            hook_scope=partial(TaskScope, app),
            enter_to_log=partial(enter_to_log, app),
            context=task_context,
            installation=INSTALLATION,
            name=app.import_name,
        )
        runtime = Runtime(checked, hooks)
        app.extensions[NAME] = runtime
        app.wsgi_app = BackgroundTasksMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, runtime=runtime, refuse=partial(refuse, app)
        )
        watch(app)

    def __call__(self, *_: Any) -> Any:
        """Refuse: in Flask this is an extension, and no decorator of views."""
        raise TypeError(
            "background_tasks is no decorator in Flask: leave it away, and call "
            "background_tasks.add_task(func, ...) in the view"
        )

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

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        """Return ``add_task`` with options, for the current request.

        Args:
            base: a set of options. Default: none.
            options: as for the core queue's ``options``.

        Raises:
            TypeError: an option that is not accepted, a value that is none of its values, or two
                options that contradict each other.
            NoResponseError: as `add_task`.
        """
        return self._queue().options(base, **options)

    def flush(self) -> None:
        """Let the tasks that were added so far run now, though the response goes on.

        Raises:
            NoResponseError: as `add_task`.
            QueueFullError: as the core queue's ``flush``.
        """
        self._queue().flush()

    def queue(self, app: Flask | None = None) -> Queue:
        """Return a queue by itself, where no request is: in commands, scripts and threads.

        Its tasks have an application context of their own, and so an own session of a database
        extension, and the application's settings. It is used in a ``with`` block::

            with background_tasks.queue() as tasks:
                tasks.add_task(remind, invoice.id)  # runs when the block has ended

        Args:
            app: the application. Default: the current one.

        Raises:
            NoResponseError: there is no current application, or `init_app` was not called for it.
        """
        if app is None and not has_app_context():
            raise NoResponseError(
                "background_tasks.queue() was used outside an application context. Name the "
                "application: background_tasks.queue(app)."
            )
        return Queue(runtime=_runtime(app or current_app))

    def forget(self, key: str) -> bool:
        """Discard the task of the current application that waits with a key.

        At once, and not with the response. One that runs goes on.

        Args:
            key: as the option ``key``.

        Returns:
            Whether one waited.

        Raises:
            TypeError: no key.
            NoResponseError: as `queue`: elsewhere, ``background_tasks.queue(app).forget(key)``.
        """
        return self.queue().forget(key)

    def _queue(self) -> Queue:
        if has_request_context():
            _runtime(current_app)
            queue: Any = request.environ.get(QUEUE_KEY)
            if queue is None or queue.opener is not None:  # no view of Flask's serves this request
                queue = event_queue() or queue
            if queue is not None:
                return queue  # type: ignore[no-any-return]
        # A task may add to its own queue, also in a request context that nobody has requested;
        # and so may a block of `queue`.
        if has_app_context():
            runtime = _runtime(current_app)
            with suppress(NoResponseError):
                current: Queue = current_queue()
                if current.runtime is runtime:
                    return current
        raise NoResponseError(_not_here())


def _own_queue() -> Queue | None:
    """The queue of `bgadapters.enqueue` where an application is the current one."""
    if not has_app_context() or NAME not in current_app.extensions:
        return None
    return Queue(runtime=_runtime(current_app))


make_own_queues(_own_queue)


def _runtime(app: Flask) -> Runtime:
    if NAME not in app.extensions:
        raise NoResponseError(
            f"BackgroundTasks was not initialised for the application {app.name!r}: "
            "call background_tasks.init_app(app)."
        )
    runtime: Runtime = app.extensions[NAME]
    return runtime


def _not_here() -> str:
    instead = "Use 'with background_tasks.queue() as tasks: tasks.add_task(...)' there"
    if has_request_context():
        return (
            "background_tasks was used in a request that no client made (a test_request_context, "
            f"for one), so no response would release the task. {instead}, or app.test_client()."
        )
    return (
        "background_tasks was used outside a request, where no response would release the task. "
        f"{instead}; outside an application context, background_tasks.queue(app)."
    )


def _settings(app: Flask, given: Any) -> Any:
    config: dict[str, Any] = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in app.config.items()
        if name.startswith(_PREFIX)
    }
    parse_settings(config, lambda name: f"{_PREFIX}{name.upper()}")
    return parse_settings({**given, **config})
