"""OpenTelemetry: a span around each attempt of a task, and metrics of all tasks of the process.

``opentelemetry-instrument`` finds the instrumentor by itself. In code it is one line, before the
application serves::

    BackgroundTasksInstrumentor().instrument()
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Literal

from bgadapters import __version__, stats
from bgadapters.adapters import (
    TaskEvent,
    add_carrier,
    callable_name,
    explain_missing,
    remove_carrier,
    subscribe,
    unsubscribe,
)

try:
    from opentelemetry import context as otel
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
        BaseInstrumentor,  # in a file that tells type checkers to ignore it
    )
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError as missing:
    for needed in ("opentelemetry", "opentelemetry.instrumentation"):
        explain_missing(
            missing,
            needed,
            "bgadapters.telemetry.opentelemetry needs it: pip install 'bgadapters[opentelemetry]'.",
        )
    raise

NewTrace = bool | Callable[[TaskEvent], bool]

TRACED = "bgadapters.task"
"""Where OpenTelemetry's context holds the id of the task that has a span of its own already."""
NEW_TRACE = "OTEL_PYTHON_BGADAPTERS_NEW_TRACE"
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

_Attributes = Mapping[str, str | int | float]

_current: ContextVar[_Attempt | None] = ContextVar("bgadapters.otel.attempt", default=None)


class BackgroundTasksInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Traces and measures the tasks of every application of this process.

    ``instrument()`` accepts, all by keyword:

    - ``tracer_provider``, ``meter_provider``: what spans and metrics go to. Default: the
      global ones.
    - ``new_trace``: whether the span of a task begins a new trace, with a link to the span in which
      it was added, as suits tasks that take long: True, False, or a function of the event
      ``started`` that tells. Default: the environment variable
      ``OTEL_PYTHON_BGADAPTERS_NEW_TRACE`` (``true`` or ``false``), or False.

    What else it is given raises a ``TypeError``, except other providers.
    """

    _telemetry: _Telemetry | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what has to be installed for it to be of use."""
        return ("bgadapters",)

    def _instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        new_trace: NewTrace | None = None,
        **others: Any,
    ) -> None:
        unknown = [name for name in others if not name.endswith("_provider")]
        if unknown:
            raise TypeError(
                "BackgroundTasksInstrumentor().instrument() accepts tracer_provider, "
                f"meter_provider and new_trace, not {', '.join(unknown)}"
            )
        self._telemetry = _Telemetry(
            _Spans(tracer_provider, _checked_new_trace(new_trace)), _Metrics(meter_provider)
        )
        subscribe(self._telemetry.on_event)
        add_carrier(_CARRIER, _carry, _restore)

    def _uninstrument(self, **_: Any) -> None:
        telemetry, self._telemetry = self._telemetry, None
        if telemetry is not None:
            unsubscribe(telemetry.on_event)
            remove_carrier(_CARRIER)
            telemetry.metrics.is_on = False


def _checked_new_trace(given: NewTrace | None) -> NewTrace:
    if given is None:
        text = os.environ.get(NEW_TRACE, "").strip().lower()
        if text not in {"", "true", "false"}:
            raise ValueError(f"{NEW_TRACE} accepts true or false, not {text!r}")
        return text == "true"
    if not isinstance(given, bool) and not callable(given):
        raise TypeError(
            f"new_trace accepts True, False or a function of a TaskEvent, not {given!r}"
        )
    return given


_CARRIER = "opentelemetry"


def _carry() -> dict[str, str]:
    """Return the trace of the request, for tasks that run in another process."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def _restore(carrier: dict[str, str]) -> None:
    otel.attach(propagate.extract(carrier))


class _Telemetry:
    """Hears of every event of the process."""

    def __init__(self, spans: _Spans, metrics: _Metrics) -> None:
        self.spans = spans
        self.metrics = metrics

    def on_event(self, event: TaskEvent) -> None:
        """Called where it happens, in the task's own context variables."""
        kind = event.kind
        if kind == "added":
            return
        function = function_name(event)
        if kind == "started":
            self.spans.begin(event, function)
            self.metrics.started(event, function)
        elif kind != "overdue":
            attempt = self.spans.current(event)
            self.metrics.ended(event, function)  # with the span as the exemplar
            if attempt is not None:
                attempt.end(event)
        if kind in _NOTES:
            _note_on_current(event, function)


class _Attempt:
    """The span of one attempt to run a task.

    Args:
        span: the span.
        task_id: that of the task.
        outside: OpenTelemetry's context without the span.
    """

    __slots__ = ("_outside", "_span", "task_id")

    def __init__(self, span: Span, task_id: str, outside: otel.Context) -> None:
        self._span = span
        self.task_id = task_id
        self._outside = outside

    def end(self, event: TaskEvent) -> None:
        """End the span, and leave the context as it was before.

        By no token: what gives up on a task that runs does so in a copy of its context.
        """
        _current.set(None)
        otel.attach(self._outside)
        span, exception = self._span, event.exception
        if not span.is_recording():  # it has been given up already, or is not sampled
            return
        try:
            if exception is not None:
                span.record_exception(exception)
                span.set_attribute("error.type", error_type(exception))
                span.set_status(Status(StatusCode.ERROR, type(exception).__name__))
            elif event.kind == "abandoned":
                span.set_attribute("error.type", "abandoned")
                span.set_status(Status(StatusCode.ERROR, event.reason))
        finally:
            span.end()


class _Spans:
    def __init__(self, provider: TracerProvider | None, new_trace: NewTrace) -> None:
        self._tracer = trace.get_tracer("bgadapters", __version__, provider, schema_url=_SCHEMA_URL)
        self._new_trace = new_trace

    def begin(self, event: TaskEvent, function: str) -> None:
        """Open the span of an attempt, unless the framework has opened one of its own for it."""
        outside = otel.get_current()
        if otel.get_value(TRACED, outside) == event.task_id or not is_instrumentation_enabled():
            return
        span = self._open(event, function, outside)
        inside = trace.set_span_in_context(span, outside)
        otel.attach(otel.set_value(TRACED, event.task_id, inside))
        _current.set(_Attempt(span, event.task_id, outside))

    def _open(self, event: TaskEvent, function: str, outside: otel.Context) -> Span:
        attributes: dict[str, str | int] = {
            "code.function.name": function,
            "thread.name": event.thread or "",
            "bgadapters.task.name": event.name,
            "bgadapters.task.id": event.task_id,
            "bgadapters.task.attempt": event.attempt,
            "bgadapters.queue.id": event.queue_id,
        }
        new_trace = self._new_trace
        parent, links = outside, []
        if new_trace if isinstance(new_trace, bool) else new_trace(event):
            parent = trace.set_span_in_context(trace.INVALID_SPAN, outside)
            added_in = trace.get_current_span(outside).get_span_context()
            links = [Link(added_in)] if added_in.is_valid else []
        is_from_elsewhere = trace.get_current_span(outside).get_span_context().is_remote
        kind = SpanKind.CONSUMER if is_from_elsewhere else SpanKind.INTERNAL
        return self._tracer.start_span(f"run {function}", parent, kind, attributes, links)

    @staticmethod
    def current(event: TaskEvent) -> _Attempt | None:
        """Return the attempt that an event is about; None if it has no span of ours."""
        attempt = _current.get()
        # A task that another one has added has a copy of that one's context variables.
        return attempt if attempt is not None and attempt.task_id == event.task_id else None


class _Metrics:
    def __init__(self, provider: MeterProvider | None) -> None:
        self.is_on = True
        meter = metrics.get_meter("bgadapters", __version__, provider, schema_url=_SCHEMA_URL)
        self._wait = meter.create_histogram(
            "bgadapters.task.wait_time",
            unit="s",
            description="Time from add_task to the start of the first attempt.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._duration = meter.create_histogram(
            "bgadapters.task.duration",
            unit="s",
            description="Duration of attempts to run a task.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._finished = meter.create_counter(
            "bgadapters.task.finished", unit="{task}", description="Tasks that have ended."
        )
        meter.create_observable_up_down_counter(
            "bgadapters.task.pending",
            [self._observing("pending")],
            unit="{task}",
            description="Tasks that wait.",
        )
        meter.create_observable_up_down_counter(
            "bgadapters.task.running",
            [self._observing("running")],
            unit="{task}",
            description="Tasks that run.",
        )

    def started(self, event: TaskEvent, function: str) -> None:
        if event.attempt == 1 and event.wait is not None:
            self._wait.record(event.wait, {"code.function.name": function})

    def ended(self, event: TaskEvent, function: str) -> None:
        """An attempt has ended, or a task without one."""
        attributes: dict[str, str] = {"code.function.name": function}
        if event.exception is not None and event.kind in {"failed", "retrying"}:
            attributes["error.type"] = error_type(event.exception)
        duration = event.duration
        if event.kind == "retrying" and event.started_at is not None:  # the task goes on
            duration = max(0.0, time.time() - event.started_at)
        if duration is not None and not event.task.is_sent:
            self._duration.record(duration, attributes)
        if event.outcome is not None:
            self._finished.add(1, {**attributes, "bgadapters.task.outcome": event.outcome})

    def _observing(
        self, what: Literal["pending", "running"]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            if self.is_on:  # an instrument cannot be taken away
                yield Observation(sum(getattr(each, what) for each in stats()))

        return observe


_NOTES: Mapping[str, str] = {
    "overdue": "bgadapters.task.overdue",
    "discarded": "bgadapters.task.discarded",
    "replaced": "bgadapters.task.replaced",
    "sent": "bgadapters.task.sent",
    "abandoned": "bgadapters.task.abandoned",
}
"""What is noted on a span: that in which the task was added; of ``overdue``, on its own."""


def _note_on_current(event: TaskEvent, function: str) -> None:
    """Leave an event on the current span, where that still records."""
    span = trace.get_current_span()
    if span.is_recording():
        attributes = {"code.function.name": function, "bgadapters.task.id": event.task_id}
        if event.reason is not None:
            attributes["bgadapters.task.reason"] = event.reason
        span.add_event(_NOTES[event.kind], attributes)


def function_name(event: TaskEvent) -> str:
    """Return ``module.qualname`` of a task's function: names that options give may be many."""
    try:
        return callable_name(event.task.unwrap().func)
    except Exception:
        return event.name


def error_type(exception: BaseException) -> str:
    """Return ``module.qualname`` of an exception's type, as the conventions for errors have it."""
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
