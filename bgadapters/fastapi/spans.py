"""FastAPI's own span around each task, in requests that FastAPI's telemetry traces.

What opens the span is FastAPI's ``BackgroundTasks``, so its name and its attributes are those that
the installed version gives to its own tasks, and its settings are heeded. Nothing of this is
imported while that telemetry is off.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from typing import Any
from weakref import WeakKeyDictionary

from fastapi import BackgroundTasks as FastAPIBackgroundTasks
from opentelemetry import context as otel
from opentelemetry import trace
from starlette.background import BackgroundTask

from bgadapters.adapters import BackgroundTasks, Batch, TaskEvent, subscribe, task_running_here

TRACED = "bgadapters.task"
"""Where OpenTelemetry's context holds the id of the task that has a span of its own already."""

_parents: WeakKeyDictionary[Batch, trace.Span | None] = WeakKeyDictionary()
_current: ContextVar[_Attempt | None] = ContextVar("bgadapters.fastapi.attempt", default=None)


def trace_tasks_of(queue: BackgroundTasks) -> None:
    """Have FastAPI's span opened around the tasks of a queue.

    Call it where FastAPI runs tasks of its own: the current span becomes the parent of theirs. The
    tasks of a WebSocket begin before that: theirs is the span in which they are added.

    Args:
        queue: that of a request which FastAPI's telemetry traces.
    """
    subscribe(on_event, first=True)  # so that others see that a task has a span
    is_live = queue.batch.is_live
    _parents.setdefault(queue.batch, None if is_live else trace.get_current_span())


def on_event(event: TaskEvent) -> None:
    """Open and close the spans of the tasks that were named by `trace_tasks_of`."""
    kind = event.kind
    if kind == "started":
        _begin(event)
    elif kind in {"succeeded", "failed", "retrying", "abandoned"}:
        attempt = _current.get()
        if attempt is not None and attempt.task_id == event.task_id:
            _current.set(None)
            attempt.end(event.exception)


def _begin(event: TaskEvent) -> None:
    batch = task_running_here()
    if batch is None or batch not in _parents:
        return
    outside = inside = otel.get_current()
    parent = _parents[batch]
    if parent is not None:
        inside = trace.set_span_in_context(parent, outside)
    attempt = _Attempt(event.task_id, event.task.unwrap().func, outside)
    opened = attempt.begin(inside)
    if opened is not None:
        otel.attach(otel.set_value(TRACED, event.task_id, opened))
        _current.set(attempt)


class _Attempt:
    """FastAPI's span around one attempt to run a task.

    Args:
        task_id: that of the task.
        func: its function.
        outside: OpenTelemetry's context without the span.
    """

    __slots__ = ("_context", "_is_open", "_outside", "_steps", "task_id")

    def __init__(self, task_id: str, func: Callable[..., Any], outside: otel.Context) -> None:
        self.task_id = task_id
        self._outside = outside
        # A span is closed in the context variables that it was opened in. A drain that gives up
        # on a task closes it from another thread.
        self._context = copy_context()
        self._steps = FastAPIBackgroundTasks([_Paused(func)])()
        self._is_open = False

    def begin(self, inside: otel.Context) -> otel.Context | None:
        """Open the span; return OpenTelemetry's context with it, None if FastAPI opens none."""
        opened = self._context.run(self._begin, inside)
        self._is_open = trace.get_current_span(opened) is not trace.get_current_span(inside)
        return opened if self._is_open else None

    def _begin(self, inside: otel.Context) -> otel.Context:
        otel.attach(inside)
        self._advance()
        return otel.get_current()

    def end(self, exception: BaseException | None) -> None:
        """Close the span, unless it is closed.

        Args:
            exception: what the task has raised; its traceback stays as it is.
        """
        otel.attach(self._outside)
        if self._is_open:
            self._is_open = False
            self._context.run(self._advance, exception)

    def _advance(self, exception: BaseException | None = None) -> None:
        """Have FastAPI's code go on to where it waits for the task, or to its end."""
        traceback = None if exception is None else exception.__traceback__
        try:
            if exception is None:
                self._steps.send(None)
            else:
                self._steps.throw(exception)
        except StopIteration:
            pass
        except BaseException as exc:
            if exc is not exception:
                raise
            exc.__traceback__ = traceback


class _Paused(BackgroundTask):
    """Stands for a task that runs elsewhere: its call begins, and ends when it is told to."""

    def __init__(self, func: Callable[..., Any]) -> None:
        super().__init__(func)

    async def __call__(self) -> None:
        """Wait once."""
        await _Pause()


class _Pause:
    def __await__(self) -> Generator[None, None, None]:
        yield
