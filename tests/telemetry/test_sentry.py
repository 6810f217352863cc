"""Sentry: one event a failure, in the scope of its request, with a transaction of its own."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sentry_sdk")

import sentry_sdk
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

import bgadapters
from bgadapters.adapters import (
    FrameworkHooks,
    Runtime,
    Settings,
    TaskEvent,
    TaskInfo,
    parse_settings,
)
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import Task
from bgadapters.telemetry import sentry as ours
from tests.core.memory_engine import MemoryEngine
from tests.telemetry.lines import VARIABLE, Lines
from tests.telemetry.sentry_sink import Sink

Start = Callable[..., Lines]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Set up Sentry in this process, until the end of the test."""
    lines = Lines(tmp_path)
    monkeypatch.setenv(VARIABLE, str(lines.path))

    def init(*, with_ours: bool = True, **options: Any) -> Lines:
        integrations: list[Any] = [LoggingIntegration(), DedupeIntegration()]
        if with_ours:
            integrations.append(ours.BackgroundTasksIntegration())
            ours.install()  # Sentry sets an integration up once a process
        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=Sink,
            default_integrations=False,
            integrations=integrations,
            traces_sample_rate=1.0,
            **options,
        )
        return lines

    yield init
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    ours.uninstall()


def boom(who: str) -> None:
    sentry_sdk.set_tag("in_task", who)
    raise ValueError(who)


async def aboom(who: str) -> None:
    await asyncio.sleep(0)
    boom(who)


def fine(who: str) -> None:
    sentry_sdk.set_tag("in_task", who)


async def afine(who: str) -> None:
    fine(who)


def returns_awaitable(who: str) -> Any:
    return aboom(who)


def request(who: str, *tasks: Any, runtime: Runtime | None = None) -> None:
    """A request of which Sentry knows the user, with tasks."""
    with (
        sentry_sdk.isolation_scope() as scope,
        sentry_sdk.start_transaction(name=f"request of {who}", op="http.server"),
    ):
        scope.set_user({"id": who})
        with bgadapters.BackgroundTasks(runtime=runtime) as queue:
            for task in tasks:
                queue.add_task(task, who)


kinds = pytest.mark.parametrize("task", [boom, aboom, returns_awaitable])


@kinds
def test_a_failure_is_one_event_of_its_own_request(start: Start, task: Any) -> None:
    lines = start()
    for who in ("ada", "bob"):
        request(who, task)
    bgadapters.drain()
    events = {event["user"]: event for event in lines.wait_for("event", 2)}
    assert len(lines.all("event")) == 2
    for who in ("ada", "bob"):
        event = events[who]
        name = f"{__name__}.{task.__name__}"
        assert event["exception"] == who
        assert event["mechanism"] == {"type": "bgadapters", "handled": False}
        assert event["name"] == event["tags"]["task_name"] == name
        assert event["tags"]["in_task"] == who
        assert event["tags"]["task_attempt"] == "1"
        assert event["context"]["task_id"] == event["tags"]["task_id"]
        (own,) = lines.all("span", name=name, id=event["span"])
        (of_request,) = lines.all("span", name=f"request of {who}")
        assert (own["op"], own["source"]) == ("queue.task.bgadapters", "task")
        assert own["origin"] == "auto.queue.bgadapters"
        assert own["status"] == "internal_error"
        assert own["data"]["messaging.message.id"] == event["tags"]["task_id"]
        assert own["data"]["messaging.message.receive.latency"] >= 0
        assert (own["trace"], own["parent"]) == (of_request["trace"], of_request["id"])
        assert event["trace"] == own["trace"]
        assert of_request["status"] != "internal_error"


@pytest.mark.parametrize("task", [fine, afine])
def test_a_task_that_succeeds_is_a_transaction_and_no_event(start: Start, task: Any) -> None:
    lines = start()
    request("ada", task)
    bgadapters.drain()
    (own,) = lines.wait_for("span", name=f"{__name__}.{task.__name__}")
    assert own["status"] == "ok"
    assert own["tags"]["in_task"] == "ada"
    assert lines.all("event") == []


@kinds
def test_tasks_of_one_response_do_not_see_each_others_tags(start: Start, task: Any) -> None:
    lines = start()
    request("ada", fine, task)
    bgadapters.drain()

    def other(who: str) -> None:
        raise KeyError(who)

    request("bob", fine, other)
    bgadapters.drain()
    (event,) = lines.wait_for("event", exception="'bob'")
    assert "in_task" not in event["tags"]


def by_tag(event: TaskEvent) -> None:
    sentry_sdk.set_tag("team", "mail")


def by_scope(event: TaskEvent) -> None:
    with sentry_sdk.new_scope() as scope:
        scope.set_tag("team", "mail")
        sentry_sdk.capture_exception(event.exception)


@kinds
@pytest.mark.parametrize("on_error", [by_tag, by_scope])
def test_what_on_error_sets_is_on_the_one_event(start: Start, task: Any, on_error: Any) -> None:
    """Also where it captures the exception by itself, as people write it."""
    lines = start()
    runtime = Runtime(Settings(on_error=on_error))
    request("ada", task, runtime=runtime)
    runtime.drain()
    (event,) = lines.wait_for("event")
    assert event["tags"]["team"] == "mail"
    assert event["mechanism"]["type"] == "bgadapters"
    assert event["mechanism"]["handled"] is False
    assert event["user"] == "ada"


def test_what_a_task_has_captured_is_not_sent_again(start: Start) -> None:
    lines = start()

    def captures(who: str) -> None:
        try:
            boom(who)
        except ValueError as exc:
            sentry_sdk.capture_exception(exc)
            raise

    request("ada", captures)
    bgadapters.drain()
    (event,) = lines.wait_for("event")
    assert event["mechanism"]["handled"] is True


def test_what_a_task_handles_is_its_own_matter(start: Start) -> None:
    """It is sent as it was captured, and the failure after it is another event."""
    lines = start()

    def handles(who: str) -> None:
        try:
            boom(who)
        except ValueError as exc:
            sentry_sdk.capture_exception(exc)
        raise KeyError(who)

    request("ada", handles)
    bgadapters.drain()
    handled, failed = lines.wait_for("event", 2)
    assert handled["mechanism"]["handled"] is True
    assert failed["mechanism"]["handled"] is False


def test_a_transaction_of_the_task_itself_keeps_its_name(start: Start) -> None:
    lines = start()

    def traces(who: str) -> None:
        with sentry_sdk.start_transaction(name="mine", op="x"):
            pass

    request("ada", traces)
    bgadapters.drain()
    assert lines.wait_for("span", name="mine")
    assert lines.wait_for("span", op="queue.task.bgadapters")


def test_a_task_of_a_task_has_a_scope_of_its_own(start: Start) -> None:
    lines = start()

    def adds(who: str) -> None:
        sentry_sdk.set_tag("by", who)
        with bgadapters.BackgroundTasks() as queue:
            queue.add_task(boom, f"of {who}")

    request("ada", adds)
    bgadapters.drain()
    (event,) = lines.wait_for("event")
    assert event["tags"]["by"] == "ada"
    assert event["name"] == f"{__name__}.boom"
    (outer,) = lines.wait_for("span", name=f"{__name__}.{adds.__qualname__}")
    (inner,) = lines.wait_for("span", name=f"{__name__}.boom")
    assert (inner["parent"], inner["trace"]) == (outer["id"], outer["trace"])
    assert outer["status"] == "ok"


def test_what_a_worker_makes_of_a_failure_is_not_sent_as_well(start: Start) -> None:
    """The worker of an engine logs it, and Sentry may have an integration of that worker."""
    lines = start()
    engine = MemoryEngine()
    runtime = Runtime(parse_settings({"engines": {"it": engine}, "task_modules": [__name__]}))
    with bgadapters.BackgroundTasks(runtime=runtime) as queue:
        queue.options(engine="it").add_task(boom, "ada")
    runtime.drain()
    try:
        engine.run_all()
    except ValueError as exc:
        logging.getLogger("worker").exception("A task has failed")
        sentry_sdk.capture_exception(exc)
        other = RuntimeError("what the worker makes of it")
        other.__cause__ = exc
        sentry_sdk.capture_exception(other)
    sentry_sdk.capture_exception(KeyError("another"))
    first, second = lines.wait_for("event", 2)
    assert (first["exception"], second["exception"]) == ("ada", "'another'")
    assert len(lines.all("event")) == 2
    runtime.close()


WAYS: list[dict[str, Any]] = [{}]
if hasattr(sentry_sdk, "traces"):
    WAYS.append({"trace_lifecycle": "stream"})


@pytest.mark.parametrize("options", WAYS)
def test_abandoned_tasks_are_events(start: Start, options: Any) -> None:
    """Those that run and those that wait, each once, with the user of its request."""
    lines = start(**options)
    runtime = Runtime(Settings(max_workers=1))
    began, may_end = threading.Event(), threading.Event()

    def hangs(who: str) -> None:
        began.set()
        may_end.wait(20)

    def of(who: str, task: Any) -> None:
        with sentry_sdk.isolation_scope() as scope:
            scope.set_user({"id": who})
            with bgadapters.BackgroundTasks(runtime=runtime) as queue:
                queue.add_task(task, who)

    of("ada", hangs)
    assert began.wait(20)
    of("bob", boom)
    try:
        assert len(runtime.drain(0.05)) == 2
    finally:
        may_end.set()
    events = {event["user"]: event for event in lines.wait_for("event", 2)}
    assert len(lines.all("event")) == 2
    for who, name in (("ada", hangs.__qualname__), ("bob", "boom")):
        event = events[who]
        assert event["message"] == (
            f"Background task {__name__}.{name} was abandoned: "
            "not finished within the drain timeout of 0.05 s"
        )
        assert (event["level"], event["tags"]["task_name"]) == ("error", f"{__name__}.{name}")
        assert event["fingerprint"] == ["bgadapters", "abandoned", f"{__name__}.{name}"]
    sentry_sdk.get_client().flush(5)
    (own,) = lines.wait_for("span", op="queue.task.bgadapters")
    assert own["status"] == ("error" if options else "deadline_exceeded")


def test_an_attempt_that_is_followed_by_another_is_no_event(start: Start) -> None:
    lines = start()

    class Origin:
        id = "queue"
        method = path = outcome = None

    from contextvars import copy_context

    task = Task(boom, ("ada",), copy_context())
    record = Record(Origin(), 1.0)

    def attempt(number: int, end: Any) -> None:
        record.attempt, record.started = number, 2.0
        for event in (
            TaskEvent("started", task, None, record),
            TaskEvent(end, task, ValueError("ada"), record),
        ):
            ours._before_hooks(event)
            if event.kind == "started":
                ours._TRACE.around(TaskInfo(task, record, is_async=False), None)
            ours._after_hooks(event)

    task.context.run(attempt, 1, "retrying")
    task.context.run(attempt, 2, "failed")
    (event,) = lines.wait_for("event")
    assert event["tags"]["task_attempt"] == "2"
    first, second = lines.wait_for("span", 2, op="queue.task.bgadapters")
    assert [first["tags"]["task_attempt"], second["tags"]["task_attempt"]] == ["1", "2"]
    assert first["status"] == second["status"] == "internal_error"


def test_a_failure_of_a_task_that_began_before_is_an_event(start: Start) -> None:
    """Nobody told of its start, so it has no transaction."""
    began, may_end = threading.Event(), threading.Event()

    def late(who: str) -> None:
        began.set()
        may_end.wait(20)
        boom(who)

    request("ada", late)
    assert began.wait(20)
    lines = start()
    may_end.set()
    bgadapters.drain()
    (event,) = lines.wait_for("event")
    assert event["mechanism"]["type"] == "bgadapters"
    assert lines.all("span", op="queue.task.bgadapters") == []


def test_what_else_we_log_at_error_stays_an_event(start: Start) -> None:
    lines = start()

    def broken(event: TaskEvent) -> None:
        raise KeyError("hook")

    runtime = Runtime(Settings(on_error=broken))
    request("ada", boom, runtime=runtime)
    runtime.drain()
    events = lines.wait_for("event", 2)
    assert sorted(event["exception"] for event in events) == ["'hook'", "ada"]


@kinds
def test_without_the_integration_the_log_is_the_one_event(start: Start, task: Any) -> None:
    lines = start(with_ours=False)
    request("ada", task)
    bgadapters.drain()
    (event,) = lines.wait_for("event")
    assert event["mechanism"] == {"type": "logging", "handled": True}
    assert event["user"] == "ada"


@pytest.mark.parametrize("enter", [None, bool])
def test_without_the_integration_an_on_error_that_captures_makes_no_second_event(
    start: Start, enter: Callable[[], object] | None
) -> None:
    """Sentry notes in a context variable what it has seen: not in that of the log alone."""
    lines = start(with_ours=False)
    hooks = FrameworkHooks(enter_to_log=enter)
    told: list[str] = []

    def on_error(event: TaskEvent) -> None:
        sentry_sdk.capture_exception(event.exception)
        told.append(event.kind)

    runtime = Runtime(Settings(on_error=on_error), hooks)
    request("ada", boom, runtime=runtime)
    runtime.drain()
    request("bob", boom, runtime=runtime)
    runtime.drain()
    assert told == ["failed"] * 2
    assert [each["user"] for each in lines.wait_for("event", 2)] == ["ada", "bob"]


def test_listeners_that_are_left_over_do_nothing(start: Start) -> None:
    """Sentry may be set up a second time, without the integration."""
    start()
    lines = start(with_ours=False)
    request("ada", boom, fine)
    bgadapters.drain()
    (event,) = lines.wait_for("event")
    assert event["mechanism"]["type"] == "logging"
    assert lines.all("span", op="queue.task.bgadapters") == []


@pytest.mark.skipif(not hasattr(sentry_sdk, "traces"), reason="this Sentry streams no spans")
@kinds
def test_spans_may_be_streamed(start: Start, task: Any) -> None:
    lines = start(trace_lifecycle="stream")
    traces: Any = importlib.import_module("sentry_sdk.traces")
    with sentry_sdk.isolation_scope(), traces.start_span("request") as span:
        of_request = span.trace_id, span.span_id
        with bgadapters.BackgroundTasks() as queue:
            queue.add_task(task, "ada")
    bgadapters.drain()
    sentry_sdk.get_client().flush(5)
    (own,) = lines.wait_for("span", op="queue.task.bgadapters")
    assert (own["trace"], own["parent"]) == of_request
    assert own["status"] == "error"
    assert own["data"]["messaging.message.id"]
    (event,) = lines.wait_for("event")
    assert event["span"] == own["id"]
