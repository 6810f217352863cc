"""What OpenTelemetry's SDK has recorded in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


class Point(NamedTuple):
    """What was measured under some attributes."""

    attributes: Mapping[str, Any]
    value: float  # of a counter; of a histogram, the sum
    measured: int  # how often, of a histogram


class Recorded:
    """Providers of spans and metrics that keep them in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader])
        self.tracer = self.tracer_provider.get_tracer("tests")

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, whose names begin so, in the order of their starts."""
        found = [s for s in self._exporter.get_finished_spans() if s.name.startswith(name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def span(self, name: str) -> ReadableSpan:
        """The one span of a name that begins so."""
        (found,) = self.spans(name)
        return found

    def points(self, name: str) -> list[Point]:
        """What was measured under a name."""
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        points: list[Any] = [point for metric in metrics for point in metric.data.data_points]
        return [
            Point(each.attributes, getattr(each, "value", 0) or getattr(each, "sum", 0),
                  getattr(each, "count", 0))
            for each in points
        ]  # fmt: skip


def parent_of(span: ReadableSpan) -> int | None:
    """The id of the span that a span is a child of."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    assert span.context is not None
    found: int = span.context.span_id
    return found


def trace_of(span: ReadableSpan) -> int:
    """The id of a span's trace."""
    assert span.context is not None
    found: int = span.context.trace_id
    return found
