"""What a task sees of Flask: an application context of its own, and no request.

A copy of the context variables holds what Flask keeps there, the request with its body, its socket
and its session. A task that waits would keep all of it, and could read what is no longer its own.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Any

import flask.ctx
from flask import Flask, request
from werkzeug.routing import MapAdapter

from bgadapters.adapters import exceptions_of
from bgadapters.flask import teardown
from bgadapters.flask.connections import NAME

# Since 3.2 the application's context is the request's as well, and the other name is deprecated:
# asking the module for it would warn.
_APP: type = flask.ctx.AppContext
_REQUEST: type = vars(flask.ctx).get("RequestContext", _APP)

_OfTask = tuple[MapAdapter | None, bool]
_of_task: ContextVar[_OfTask] = ContextVar("bgadapters.flask.of_task", default=(None, False))
"""What makes the URLs of its request, and whether a teardown function has added it.

One variable for both, and not a variable for each: that would cost each task.
"""

_NO_REQUEST = (
    "This was raised in a background task. A task has no request: its response is over. Read what "
    "the task needs of request, session or current_user in the view, and pass it as an argument: "
    "add_task(func, request.path, session.get('user_id')). What many tasks need, such as the user "
    "of Flask-Login or the locale of Flask-Babel, comes along by the setting task_middleware: "
    "docs/task-middleware.md has the recipes."
)


def task_context() -> Context:
    """Return a copy of the current context variables without those in which Flask keeps a request.

    A variable can be taken out of no context, so this is a new one. What remains of the request
    is how it makes URLs: the host, the scheme and the prefix.
    """
    context = Context()
    is_in_request = context.run(_fill, copy_context())
    if not is_in_request and teardown.is_at_work():
        context.run(_end_here)
    return context


def _fill(source: Context) -> bool:
    """Set the variables; tell whether Flask's request was one of them, as far as that is told."""
    is_in_request = False
    adapter: MapAdapter | None = None
    for variable, value in source.items():
        kind = type(value)
        if kind is _APP or issubclass(kind, _APP):
            adapter = adapter or value.url_adapter
        elif kind is _REQUEST or issubclass(kind, _REQUEST):
            adapter = value.url_adapter or adapter
            is_in_request = True
        else:
            variable.set(value)
    if adapter is not None:
        _of_task.set((adapter, False))
    return is_in_request


def _end_here() -> None:
    _of_task.set((_of_task.get()[0], True))


class TaskScope:
    """Around a task: a fresh application context, whose URLs are those of the task's request.

    Args:
        app: the application.
    """

    __slots__ = ("_app", "_context", "_ends_here")

    def __init__(self, app: Flask) -> None:
        self._app = app

    def __enter__(self) -> None:
        self._context: Any = self._app.app_context()
        adapter, self._ends_here = _of_task.get()
        if adapter is not None and adapter.map is self._app.url_map:
            self._context.url_adapter = adapter
        if self._ends_here:
            _of_task.set((adapter, False))  # of what the task itself adds
        self._context.push()

    def __exit__(
        self,
        _: type[BaseException] | None,
        exception: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        if exception is not None and _misses_a_request(exception):
            exception.add_note(_NO_REQUEST)
        if self._ends_here:
            try:
                with teardown.adding_nothing(self._app.extensions[NAME]):
                    self._context.pop(exception)
            finally:
                _end_here()  # what is told of the task has a context too
        else:
            self._context.pop(exception)


def enter_to_log(app: Flask) -> None:
    """Have an application context for a log record, in a context that is thrown away afterwards.

    It is not left, so that the application's teardown, which belongs to tasks, is not called. Hooks
    are called in there too, each in a `TaskScope` of its own.
    """
    of_task = _of_task.get()
    TaskScope(app).__enter__()
    _of_task.set(of_task)


def _misses_a_request(exception: BaseException) -> bool:
    """Whether an exception is or holds that of using ``request`` where there is none."""
    return any(
        isinstance(each, RuntimeError) and each.args == _said_without_a_request()
        for each in exceptions_of(exception)
    )


def _said_without_a_request() -> tuple[Any, ...] | None:
    """What Flask says when ``request`` is used here; its text is its own."""
    try:
        _ = request.method
    except RuntimeError as exc:
        return exc.args
    return None
