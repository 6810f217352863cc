"""Spans and metrics of tasks, recorded by OpenTelemetry's SDK in this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
pytest.importorskip("opentelemetry.instrumentation", reason="the extra is not installed")

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from bgadapters import BackgroundTasks, TaskEvent, add_task
from bgadapters.adapters import Options, Runtime, parse_settings
from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor
from tests.core.memory_engine import MemoryEngine
from tests.core.ways import PATIENCE, reached
from tests.telemetry.recorded import Recorded, id_of, parent_of, trace_of

HERE = __name__
Instrument = Callable[..., None]


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def instrument(recorded: Recorded) -> Iterator[Instrument]:
    instrumentor = BackgroundTasksInstrumentor()

    def instrument(**settings: Any) -> None:
        instrumentor.instrument(
            tracer_provider=recorded.tracer_provider,
            meter_provider=recorded.meter_provider,
            **settings,
        )

    yield instrument
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    made = Runtime(parse_settings({}))
    yield made
    assert made.drain(PATIENCE) == []


def work(who: str = "") -> None:
    pass


async def awork(who: str = "") -> None:
    await asyncio.sleep(0)


def later(who: str = "") -> Any:
    return awork(who)


def boom(who: str = "") -> None:
    raise LookupError("no such thing")


async def aboom(who: str = "") -> None:
    raise LookupError("no such thing")


def more() -> None:
    add_task(work)


def respond(recorded: Recorded, runtime: Runtime, *funcs: Callable[..., Any]) -> ReadableSpan:
    """Add tasks in a request's span, run them when it has ended, and return it."""
    with (
        BackgroundTasks(runtime=runtime) as tasks,
        recorded.tracer.start_as_current_span("GET /"),
    ):
        for func in funcs:
            tasks.add_task(func)
    assert runtime.drain(PATIENCE) == []
    return recorded.spans("GET /")[-1]


@pytest.mark.parametrize("func", [work, awork, later], ids=lambda func: func.__name__)
def test_each_task_has_a_span_below_that_of_its_request(
    recorded: Recorded, instrument: Instrument, runtime: Runtime, func: Callable[..., Any]
) -> None:
    instrument()
    request = respond(recorded, runtime, partial(func, "a secret"))
    span = recorded.span("run ")
    assert span.name == f"run {HERE}.{func.__name__}"
    assert span.kind is SpanKind.INTERNAL
    assert (trace_of(span), parent_of(span)) == (trace_of(request), id_of(request))
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes.pop("bgadapters.task.id") != attributes.pop("bgadapters.queue.id")
    assert attributes.pop("thread.name")
    assert attributes == {
        "code.function.name": f"{HERE}.{func.__name__}",
        "bgadapters.task.name": f"{HERE}.{func.__name__}",
        "bgadapters.task.attempt": 1,
    }
    assert "a secret" not in span.to_json()


@pytest.mark.parametrize("func", [boom, aboom], ids=lambda func: func.__name__)
def test_a_failure_is_recorded_once_and_logged_within_the_span(
    recorded: Recorded,
    instrument: Instrument,
    runtime: Runtime,
    func: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    instrument()
    current: list[int] = []

    class Current(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            current.append(trace.get_current_span().get_span_context().span_id)
            return True

    caplog.handler.addFilter(only := Current())
    try:
        respond(recorded, runtime, func)
    finally:
        caplog.handler.removeFilter(only)
    span = recorded.span("run ")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "LookupError"
    assert [event.name for event in span.events] == ["exception"]
    assert current == [id_of(span)]


def test_a_span_is_the_current_one_in_its_task_alone(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()
    seen: list[int] = []

    def look() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    async def alook() -> None:
        look()

    respond(recorded, runtime, look, alook, look)
    assert seen == [id_of(span) for span in recorded.spans("run ")]
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_task_that_another_one_adds_is_below_that_one(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()
    respond(recorded, runtime, more)
    adding, added = recorded.spans("run ")
    assert parent_of(added) == id_of(adding)
    assert (added.attributes or {})["code.function.name"] == f"{HERE}.work"


def test_what_becomes_of_another_task_leaves_the_span_of_the_one_that_runs(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()

    def try_in_vain() -> None:
        with suppress(KeyError), BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(work)
            raise KeyError
        with recorded.tracer.start_as_current_span("step"):
            pass

    respond(recorded, runtime, try_in_vain)
    span, step = recorded.span("run "), recorded.span("step")
    assert parent_of(step) == id_of(span)
    assert (span.end_time or 0) >= (step.end_time or 0) > 0
    assert [event.name for event in span.events] == ["bgadapters.task.discarded"]


def test_hooks_of_the_application_see_the_span_of_the_request(
    recorded: Recorded, instrument: Instrument
) -> None:
    instrument()
    seen: list[int] = []

    def note(event: TaskEvent) -> None:
        if event.outcome is not None:
            seen.append(trace.get_current_span().get_span_context().span_id)

    runtime = Runtime(parse_settings({"on_event": note}))
    request = respond(recorded, runtime, work, awork, boom)
    assert seen == [id_of(request)] * 3


@pytest.mark.parametrize(
    "new_trace", [True, lambda event: event.name.endswith("work")], ids=["always", "asked"]
)
def test_a_task_may_begin_a_trace_of_its_own(
    recorded: Recorded, instrument: Instrument, runtime: Runtime, new_trace: Any
) -> None:
    instrument(new_trace=new_trace)
    request = respond(recorded, runtime, work)
    span = recorded.span("run ")
    assert span.parent is None
    assert trace_of(span) != trace_of(request)
    assert [link.context.span_id for link in span.links] == [id_of(request)]


def test_a_function_tells_which_tasks_stay_in_the_trace(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument(new_trace=lambda event: event.task.func is awork)
    request = respond(recorded, runtime, work, awork)
    stays, begins = recorded.spans("run ")
    assert parent_of(stays) == id_of(request)
    assert (begins.parent, stays.links) == (None, ())


def test_the_environment_can_ask_for_traces_of_their_own(
    recorded: Recorded,
    instrument: Instrument,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_BGADAPTERS_NEW_TRACE", "True")
    instrument()
    respond(recorded, runtime, work)
    assert recorded.span("run ").parent is None


def test_what_is_not_accepted_is_refused(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError, match="accepts tracer_provider, meter_provider and new_trace"):
        instrument(newtrace=True)
    with pytest.raises(TypeError, match="new_trace accepts True, False or a function"):
        instrument(new_trace="yes")
    monkeypatch.setenv("OTEL_PYTHON_BGADAPTERS_NEW_TRACE", "1")
    with pytest.raises(ValueError, match="accepts true or false, not '1'"):
        instrument()
    monkeypatch.undo()
    instrument(logger_provider=None)  # as distributions may pass to all instrumentors


def test_where_instrumentation_is_suppressed_there_is_no_span(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()
    with suppress_instrumentation():
        respond(recorded, runtime, work, boom)
    assert recorded.spans("run ") == []
    assert len(recorded.points("bgadapters.task.finished")) == 2


def test_a_discard_is_an_event_of_the_span_that_it_was_added_in(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()

    def fail() -> None:
        with (
            recorded.tracer.start_as_current_span("GET /", record_exception=False),
            BackgroundTasks(runtime=runtime) as tasks,
        ):
            tasks.add_task(work, "a secret")
            raise KeyError("the view")

    with pytest.raises(KeyError):
        fail()
    assert recorded.spans("run ") == []
    (event,) = recorded.span("GET /").events
    assert event.name == "bgadapters.task.discarded"
    attributes = dict(event.attributes or {})
    assert attributes.pop("bgadapters.task.id")
    assert "KeyError" in str(attributes.pop("bgadapters.task.reason"))
    assert attributes == {"code.function.name": f"{HERE}.work"}
    (point,) = recorded.points("bgadapters.task.finished")
    assert point.attributes == {
        "code.function.name": f"{HERE}.work",
        "bgadapters.task.outcome": "discarded",
    }


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_span_of_an_abandoned_task_ends_when_it_is_given_up(
    recorded: Recorded, instrument: Instrument, runtime: Runtime, is_async: bool
) -> None:
    instrument()
    runs, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        runs.set()
        go_on.wait(PATIENCE)

    async def ahang() -> None:
        runs.set()
        await asyncio.Event().wait()

    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(ahang if is_async else hang)
        tasks.add_task(work)
    reached(runs)
    try:
        assert len(runtime.drain(0.01)) == 2
        span = recorded.span("run ")
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "abandoned"
        outcomes = [
            point.attributes["bgadapters.task.outcome"]
            for point in recorded.points("bgadapters.task.finished")
        ]
        assert outcomes == ["abandoned", "abandoned"]
    finally:
        go_on.set()


def test_metrics(recorded: Recorded, instrument: Instrument, runtime: Runtime) -> None:
    instrument()
    respond(recorded, runtime, work, work, boom)
    of_work = {"code.function.name": f"{HERE}.work"}
    of_boom = {"code.function.name": f"{HERE}.boom"}
    failed = {**of_boom, "error.type": "LookupError"}

    waits = recorded.points("bgadapters.task.wait_time")
    assert [(p.attributes, p.measured) for p in waits] == [(of_work, 2), (of_boom, 1)]
    durations = recorded.points("bgadapters.task.duration")
    assert [(p.attributes, p.measured) for p in durations] == [(of_work, 2), (failed, 1)]
    assert all(0 <= p.value < PATIENCE for p in waits + durations)
    finished = recorded.points("bgadapters.task.finished")
    assert [(p.attributes, p.value) for p in finished] == [
        ({**of_work, "bgadapters.task.outcome": "succeeded"}, 2),
        ({**failed, "bgadapters.task.outcome": "failed"}, 1),
    ]


@pytest.mark.skipif("retries" not in Options._fields, reason="nothing is tried again yet")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_each_attempt_has_a_span_and_a_duration(
    recorded: Recorded, instrument: Instrument, runtime: Runtime, is_async: bool
) -> None:
    instrument()
    left = [LookupError("at first"), LookupError("once more")]

    def fail_twice() -> None:
        if left:
            raise left.pop()

    async def afail_twice() -> None:
        fail_twice()

    options: Any = {"retries": 2, "backoff": 0.01}
    with (
        BackgroundTasks(runtime=runtime) as tasks,
        recorded.tracer.start_as_current_span("GET /"),
    ):
        tasks.options(**options).add_task(afail_twice if is_async else fail_twice)
    assert runtime.drain(PATIENCE) == []
    spans = recorded.spans("run ")
    assert {parent_of(span) for span in spans} == {id_of(recorded.span("GET /"))}
    assert [(span.attributes or {})["bgadapters.task.attempt"] for span in spans] == [1, 2, 3]
    assert [len(span.events) for span in spans] == [1, 1, 0]
    assert len({str((span.attributes or {})["bgadapters.task.id"]) for span in spans}) == 1
    durations = recorded.points("bgadapters.task.duration")
    assert sorted((p.attributes.get("error.type", ""), p.measured) for p in durations) == [
        ("", 1),
        ("LookupError", 2),
    ]
    assert [p.measured for p in recorded.points("bgadapters.task.wait_time")] == [1]
    assert [p.value for p in recorded.points("bgadapters.task.finished")] == [1]


def test_what_is_sent_or_could_not_be_is_no_duration_of_the_function(
    recorded: Recorded, instrument: Instrument
) -> None:
    instrument()
    engine = MemoryEngine(patience=0.2)
    runtime = Runtime(parse_settings({"engines": {"it": engine}, "task_modules": [__name__]}))
    for engine.is_down in (False, True):
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(engine="it").add_task(work)
        assert runtime.drain(20) == []
    finished = recorded.points("bgadapters.task.finished")
    outcomes = {each.attributes["bgadapters.task.outcome"] for each in finished}
    assert outcomes == {"sent", "failed"}
    assert recorded.points("bgadapters.task.duration") == []
    runtime.close()


def test_what_waits_and_runs_is_counted_and_nothing_is_left(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()
    runs, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        runs.set()
        reached(go_on)

    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(hold)
        tasks.add_task(work)
    reached(runs)
    try:
        assert [p.value for p in recorded.points("bgadapters.task.running")] == [1]
        assert [p.value for p in recorded.points("bgadapters.task.pending")] == [1]
    finally:
        go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert [p.value for p in recorded.points("bgadapters.task.running")] == [0]
    assert [p.value for p in recorded.points("bgadapters.task.pending")] == [0]


def test_what_is_no_longer_instrumented_tells_nothing(
    recorded: Recorded, instrument: Instrument, runtime: Runtime
) -> None:
    instrument()
    BackgroundTasksInstrumentor().uninstrument()
    respond(recorded, runtime, work)
    assert recorded.spans("run ") == []
    for name in ("finished", "running", "pending"):
        assert recorded.points(f"bgadapters.task.{name}") == []
    instrument()
    respond(recorded, runtime, work)
    assert len(recorded.spans("run ")) == 1
