"""Each agent with a sink in the place of its collector: it sends nothing, and writes lines.

``start(NAME)`` is called before a framework is imported, as agents ask for. Each sink is what the
agent itself offers for it: an exporter, a transport, a filter of traces, a log for audits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tests.telemetry.lines import put


def opentelemetry() -> None:
    """OpenTelemetry's SDK; who opens the spans is another's matter."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Exporter(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            for span in spans:
                self._put(span)
            return SpanExportResult.SUCCESS

        @staticmethod
        def _put(span: ReadableSpan) -> None:
            assert span.context is not None
            put(
                "span",
                name=f"{span.name} {(span.attributes or {}).get('code.function.name', '')}".strip(),
                id=span.context.span_id,
                parent=span.parent and span.parent.span_id,
                trace=span.context.trace_id,
                error=not span.status.is_unset and not span.status.is_ok,
            )

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Exporter()))
    trace.set_tracer_provider(provider)


def fastapi() -> None:
    """FastAPI's native telemetry is on where there is a provider."""
    opentelemetry()


def otel_contrib() -> None:
    """OpenTelemetry's instrumentations of frameworks."""
    opentelemetry()
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    FastAPIInstrumentor().instrument()
    FlaskInstrumentor().instrument()
    if os.environ.get("AGENT_WITH"):
        from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

        BackgroundTasksInstrumentor().instrument()


def sentry() -> None:
    """Sentry with its integrations of frameworks; ours where it is asked for."""
    from tests.telemetry.sentry_sink import start

    start(with_ours=bool(os.environ.get("AGENT_WITH")))


def datadog() -> None:
    """Datadog's tracer, as ``ddtrace-run`` starts it."""
    os.environ.update(
        DD_CRASHTRACKING_ENABLED="false",
        DD_INSTRUMENTATION_TELEMETRY_ENABLED="false",
        DD_REMOTE_CONFIGURATION_ENABLED="false",
        DD_TRACE_AGENT_URL="http://127.0.0.1:9",
        DD_TRACE_STARTUP_LOGS="false",
    )
    import ddtrace.auto  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401
    from ddtrace.trace import TraceFilter, tracer  # pyright: ignore[reportMissingImports]

    class Filter(TraceFilter):  # type: ignore[misc]
        def process_trace(self, trace: Any) -> None:
            for span in trace:
                put(
                    "span",
                    name=f"{span.name} {span.resource}",
                    id=span.span_id,
                    parent=span.parent_id,
                    trace=span.trace_id,
                    error=bool(span.error),
                )

    tracer.configure(trace_processors=[Filter()])


def newrelic() -> None:
    """New Relic's agent in its developer mode; what it would send is in its audit log."""
    audit = os.environ["AGENT_AUDIT"]
    os.environ.update(
        NEW_RELIC_APP_NAME="shop",
        NEW_RELIC_AUDIT_LOG=audit,
        NEW_RELIC_DEVELOPER_MODE="true",
        NEW_RELIC_DISTRIBUTED_TRACING_SAMPLER_FULL_GRANULARITY_ROOT="always_on",
        NEW_RELIC_LICENSE_KEY="0" * 40,
        NEW_RELIC_LOG="stderr",
        NEW_RELIC_LOG_LEVEL="error",
        NEW_RELIC_STARTUP_TIMEOUT="10",
    )
    import newrelic.agent as agent  # pyright: ignore[reportMissingImports]

    agent.initialize()
    agent.register_application(timeout=10)


def elastic() -> None:
    """Elastic's agent with a transport of our own."""
    os.environ.update(
        ELASTIC_APM_SERVICE_NAME="shop",
        ELASTIC_APM_TRANSPORT_CLASS="tests.telemetry.agents.elastic_transport.Transport",
        ELASTIC_APM_CENTRAL_CONFIG="false",
        ELASTIC_APM_CLOUD_PROVIDER="none",
        ELASTIC_APM_METRICS_INTERVAL="0ms",
        ELASTIC_APM_LOG_LEVEL="error",
    )


AGENTS: dict[str, Callable[[], None]] = {
    "fastapi": fastapi,
    "otel_contrib": otel_contrib,
    "sentry": sentry,
    "datadog": datadog,
    "newrelic": newrelic,
    "elastic": elastic,
}


def start(agent: str) -> None:
    """Start an agent in this process."""
    AGENTS[agent]()
