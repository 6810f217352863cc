"""Sentry: an isolation scope and a transaction around each attempt of a task, an event a failure.

One line where Sentry is set up::

    sentry_sdk.init(..., integrations=[BackgroundTasksIntegration()])
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import Any

from bgadapters.adapters import (
    TaskEvent,
    TaskInfo,
    TaskMiddleware,
    add_middleware,
    explain_missing,
    remove_middleware,
    subscribe,
    unsubscribe,
    was_told,
)

try:
    import sentry_sdk
    from sentry_sdk.integrations import Integration
    from sentry_sdk.integrations.dedupe import DedupeIntegration
    from sentry_sdk.scope import add_global_event_processor
    from sentry_sdk.utils import event_from_exception
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "sentry_sdk",
        "bgadapters.telemetry.sentry needs it: pip install 'bgadapters[sentry]'.",
    )
    raise

_LOGGER = "bgadapters"

_Fields = MutableMapping[str, Any]


class BackgroundTasksIntegration(Integration):
    """Reports the tasks of every application of this process to Sentry.

    Each attempt of a task has an isolation scope, forked from that of its request, and a
    transaction of its own, which continues the trace of the request. A task that fails is one
    event, sent after ``on_error`` was called: what that sets on the scope is on the event. If the
    task or ``on_error`` has captured the exception, that is the one event. A task that is
    abandoned is one event too. A failed attempt that is followed by another is none, and
    so is what the worker of an engine makes of a failure.
    """

    identifier = "bgadapters"
    origin = f"auto.queue.{identifier}"
    op = f"queue.task.{identifier}"

    @staticmethod
    def setup_once() -> None:
        """Install it for all applications. Sentry calls this once a process."""
        install()
        add_global_event_processor(_without_log_record)
        add_global_event_processor(_without_workers_own)


def install() -> None:
    """Have the integration hear of tasks. Nothing happens if it does."""
    add_middleware(_TRACE)
    subscribe(_before_hooks)
    subscribe(_after_hooks, after_hooks=True)


def uninstall() -> None:
    """Undo `install`."""
    remove_middleware(_TRACE)
    unsubscribe(_before_hooks)
    unsubscribe(_after_hooks)


def _is_on() -> bool:
    return sentry_sdk.get_client().get_integration(BackgroundTasksIntegration) is not None


_current: ContextVar[_Attempt | None] = ContextVar("bgadapters.sentry.attempt", default=None)


def _before_hooks(event: TaskEvent) -> None:
    if not _is_on():
        return
    if event.kind == "started":
        _Attempt(event).open()
    elif event.kind in {"failed", "retrying", "abandoned"}:
        _attempt_of(event).exception = event.exception


def _after_hooks(event: TaskEvent) -> None:
    if not _is_on() or event.kind not in _STATUS:
        return
    attempt = _attempt_of(event)
    if event.kind == "failed":
        attempt.capture_exception()
    if event.kind == "abandoned":
        attempt.capture_abandoned(event)
    else:
        attempt.close(_STATUS[event.kind])


_ABANDONED = "deadline_exceeded"
_STATUS = {
    "succeeded": "ok",
    "failed": "internal_error",
    "retrying": "internal_error",
    "abandoned": _ABANDONED,
}


def _attempt_of(event: TaskEvent) -> _Attempt:
    """Return the attempt that an event ends, which has no span if nobody has told of its start."""
    attempt = _current.get()
    is_of_this = attempt is not None and not attempt.is_other_than(event.task_id, event.attempt)
    if attempt is None or not is_of_this:  # None, or that of a task which has added this one
        attempt = _Attempt(event)
        attempt.open()
    return attempt


class _Trace(TaskMiddleware):
    """Carries the trace of the request into its tasks, in another process too."""

    def capture(self, task: TaskInfo) -> dict[str, str] | None:  # noqa: ARG002
        if not _is_on():
            return None
        headers = {
            "sentry-trace": sentry_sdk.get_traceparent(),
            "baggage": sentry_sdk.get_baggage(),
        }
        return {name: value for name, value in headers.items() if value is not None}

    def around(
        self, task: TaskInfo, captured: dict[str, str] | None
    ) -> AbstractContextManager[None]:
        """Begin the transaction. It ends when hooks were told of the end."""
        attempt = _current.get()
        if attempt is not None and not attempt.is_other_than(task.id, task.attempt):
            attempt.begin_span(captured or {})
        return nullcontext()


_TRACE = _Trace()


class _Attempt:
    """An attempt to run a task, as Sentry sees it."""

    def __init__(self, event: TaskEvent) -> None:
        self.exception: BaseException | None = None
        self._name = event.name
        self._id = event.task_id
        self._number = event.attempt
        self._facts = {
            "task_name": event.name,
            "task_id": event.task_id,
            "task_attempt": event.attempt,
            "task_wait": event.wait,
            "queue_id": event.queue_id,
        }
        self._captured: BaseException | None = None
        self._entered = ExitStack()
        self._span: Any = None

    def is_other_than(self, task_id: str, number: int) -> bool:
        return (self._id, self._number) != (task_id, number)

    def open(self) -> None:
        """Enter a scope of its own, in the task's context."""
        scope = self._entered.enter_context(sentry_sdk.isolation_scope())
        scope.add_event_processor(self._process)
        scope.set_transaction_name(self._name, source="task")
        scope.set_context("bgadapters", self._facts)
        for name in ("task_name", "task_id", "task_attempt"):
            scope.set_tag(name, str(self._facts[name]))
        _current.set(self)

    def begin_span(self, headers: dict[str, str]) -> None:
        """Continue a trace. A call that has returned an awaitable has begun it already."""
        if self._span is None:
            self._span = self._entered.enter_context(_span(self._name, headers))
            for name, fact in _SPAN_DATA.items():
                if self._facts[fact] is not None:
                    _describe(self._span, name, self._facts[fact])

    def capture_exception(self) -> None:
        """Send what the task has raised, unless it or a hook has."""
        if self.exception is None or self._captured is self.exception:
            return
        event, hint = event_from_exception(
            self.exception,
            client_options=sentry_sdk.get_client().options,
            mechanism={"type": BackgroundTasksIntegration.identifier, "handled": False},
        )
        sentry_sdk.capture_event(event, hint=hint)

    def capture_abandoned(self, event: TaskEvent) -> None:
        """Send that the task did not end, and end its span.

        What a signal has raised is no error of the task. The scope is left as it is: the task may
        run on in it, and this may be another thread.
        """
        sentry_sdk.capture_event(
            {
                "level": "error",
                "message": f"Background task {event.name} was abandoned: {event.reason}",
                "fingerprint": ["bgadapters", "abandoned", event.name],
            }
        )
        if self._span is not None:
            _set_status(self._span, _ABANDONED)
            _end(self._span)

    def close(self, status: str) -> None:
        """End the span and leave the scope."""
        if self._span is not None:
            _set_status(self._span, status)
        self._entered.close()
        self.exception = self._captured = None

    def _process(self, event: Any, hint: _Fields) -> Any:
        """Finish an event of this attempt, after the processors of its request have seen it."""
        exc_info = hint.get("exc_info")
        if exc_info is not None:
            self._captured = exc_info[1]
            if self._captured is self.exception:
                mechanism = event["exception"]["values"][-1].setdefault("mechanism", {})
                mechanism.update(type=BackgroundTasksIntegration.identifier, handled=False)
        if event.get("type") != "transaction" or _is_of(event, self._span):
            event["transaction"] = self._name
            event["transaction_info"] = {"source": "task"}
        return event


def _without_log_record(event: Any, hint: _Fields) -> Any:
    """Drop the event that Sentry makes of the log record of a failed task: its own one follows."""
    record = hint.get("log_record")
    if (
        isinstance(record, logging.LogRecord)
        and record.name == _LOGGER
        and getattr(record, "task_outcome", None) == "failed"
        and _is_on()
    ):
        DedupeIntegration.reset_last_seen()  # the exception has not been sent yet
        return None
    return event


def _without_workers_own(event: Any, hint: _Fields) -> Any:
    """Drop what the worker of an engine, or Sentry's integration of it, makes of a failed task."""
    exception = (hint.get("exc_info") or (None, None))[1]
    return None if exception is not None and was_told(exception) and _is_on() else event


# Sentry traces in two ways: transactions, and spans that are sent one by one.

_SPAN_DATA = {
    "messaging.message.id": "task_id",
    "messaging.message.receive.latency": "task_wait",
}
"""Sentry's names for what it knows of queues."""


def _span(name: str, headers: dict[str, str]) -> Any:
    if _streams_spans():
        traces: Any = importlib.import_module("sentry_sdk.traces")  # older ones have none
        traces.continue_trace(headers)
        return traces.start_span(
            name,
            attributes={
                "sentry.op": BackgroundTasksIntegration.op,
                "sentry.origin": BackgroundTasksIntegration.origin,
                "sentry.segment.name.source": "task",
            },
            parent_span=None,
        )
    return sentry_sdk.start_transaction(
        sentry_sdk.continue_trace(
            headers,
            op=BackgroundTasksIntegration.op,
            name=name,
            source="task",
            origin=BackgroundTasksIntegration.origin,
        )
    )


def _streams_spans() -> bool:
    options = sentry_sdk.get_client().options
    asked = options.get("trace_lifecycle") or options["_experiments"].get("trace_lifecycle")
    return bool(asked == "stream")


def _describe(span: Any, name: str, value: Any) -> None:
    if hasattr(span, "set_attribute"):
        span.set_attribute(name, value)
    else:
        span.set_data(name, value)


def _end(span: Any) -> None:
    if hasattr(span, "end"):
        span.end()
    else:
        span.finish()


def _set_status(span: Any, status: str) -> None:
    if hasattr(span, "set_status"):
        span.set_status(status)
    else:
        span.status = "ok" if status == "ok" else "error"


def _is_of(event: Any, span: Any) -> bool:
    trace = event.get("contexts", {}).get("trace", {})
    return span is not None and trace.get("span_id") == span.span_id
