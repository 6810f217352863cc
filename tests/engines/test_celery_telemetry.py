"""What Sentry and OpenTelemetry hear of a task in Celery, beside their own parts for Celery."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.core.ways import lines_of
from tests.engines import work

BOTH_SIDES = """
    import time, uuid
    from celery import Celery
    from celery.contrib.testing.worker import start_worker
    from bgadapters.engines.celery import CeleryEngine
    from tests.engines import work
    from tests.engines.bench import until
    from tests.engines.web import Web

    def run(request, func):
        app = Celery("shop", broker="memory://", set_as_current=False)
        web = Web(CeleryEngine(app))
        with start_worker(app, pool="solo", perform_ping_check=False, loglevel="CRITICAL"):
            with request:
                web.add(func)
            web.wait_for("sent")
            until(lambda: {"failed", "succeeded"} & set(web.kinds()))
        web.close()
"""


@pytest.fixture(autouse=True)
def log_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(work.LOG, str(tmp_path / "work.log"))


def told(script: str) -> list[Any]:
    """Run a script; return what it has printed, as JSON."""
    return [json.loads(line) for line in lines_of(script) if line.startswith("[")]


def test_sentry_has_one_event_in_the_trace_of_the_request() -> None:
    pytest.importorskip("sentry_sdk")
    found = told(f"""
    import json
    import sentry_sdk
    from sentry_sdk.integrations.celery import CeleryIntegration
    from sentry_sdk.transport import Transport
    from bgadapters.telemetry.sentry import BackgroundTasksIntegration

    sent = []
    class Kept(Transport):
        def capture_envelope(self, envelope):
            sent.extend(envelope.items)

    ours = [CeleryIntegration(), BackgroundTasksIntegration()]
    kept = {{"transport": Kept(), "traces_sample_rate": 1.0, "integrations": ours}}
    sentry_sdk.init("http://a@localhost/1", **kept)
    {BOTH_SIDES}
    run(sentry_sdk.start_transaction(name="request", op="http.server"), work.fail)
    sentry_sdk.flush()
    for each in sent:
        said = each.payload.json
        if each.type in ("event", "transaction"):
            trace = said["contexts"]["trace"]["trace_id"]
            print(json.dumps([each.type, said["transaction"], trace]))
    """)
    trace = {each[2] for each in found if each[1] == "request"}
    events = [each for each in found if each[0] == "event"]
    assert [each[1] for each in events] == ["tests.engines.work.fail"]
    assert {each[2] for each in events} == trace


@pytest.mark.parametrize("has_instrumentation", [False, True])
def test_a_span_has_the_trace_of_the_request(has_instrumentation: bool) -> None:
    pytest.importorskip("opentelemetry.sdk")
    if has_instrumentation and find_spec("opentelemetry.instrumentation.celery") is None:
        pytest.skip("OpenTelemetry's instrumentation of Celery is not installed")
    instrument = "from opentelemetry.instrumentation.celery import CeleryInstrumentor as Its"
    found = told(f"""
    import json
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    BackgroundTasksInstrumentor().instrument()
    if {has_instrumentation}:
        {instrument}
        Its().instrument()
    {BOTH_SIDES}
    run(trace.get_tracer("shop").start_as_current_span("request"), work.note)
    for each in kept.get_finished_spans():
        print(json.dumps([each.name, each.context.trace_id]))
    """)
    names = [name for name, _ in found]
    assert names.count("run tests.engines.work.note") == 1
    assert len({trace for _, trace in found}) == 1
    assert len(names) == (4 if has_instrumentation else 2)
