"""Under FastAPI's own telemetry our tasks have the spans that its own tasks have."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import ref

import fastapi
import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient

import bgadapters
from bgadapters.adapters import unsubscribe
from bgadapters.fastapi import BackgroundTasks, init_app

pytest.importorskip("fastapi.telemetry", reason="this version of FastAPI has no telemetry")
pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")


from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from tests.core.ways import PATIENCE
from tests.telemetry.recorded import Recorded, id_of, parent_of, trace_of

NAME = "fastapi.background_task"
"""How FastAPI calls the span of one of its tasks."""


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    yield Recorded()
    from bgadapters.fastapi.spans import on_event

    unsubscribe(on_event)  # the tasks of other tests are to be added as plainly as ever


@pytest.fixture
def instrumented(recorded: Recorded) -> Iterator[None]:
    pytest.importorskip("opentelemetry.instrumentation", reason="the extra is not installed")
    from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

    instrumentor = BackgroundTasksInstrumentor()
    instrumentor.instrument(
        tracer_provider=recorded.tracer_provider, meter_provider=recorded.meter_provider
    )
    yield
    instrumentor.uninstrument()


@pytest.fixture(params=["by itself", "with init_app"])
def traced(request: pytest.FixtureRequest, recorded: Recorded) -> FastAPI:
    """An application whose telemetry is on, with and without set-up."""
    return make(recorded, is_set_up=request.param == "with init_app")


def make(recorded: Recorded, *, is_set_up: bool = True, **telemetry: Any) -> FastAPI:
    given: Any = {"tracer_provider": recorded.tracer_provider, **telemetry}
    app = FastAPI(telemetry=given)
    if is_set_up:
        init_app(app)
    return app


def get(app: FastAPI, path: str = "/") -> None:
    with TestClient(app, raise_server_exceptions=False) as client:
        client.get(path)
    assert bgadapters.drain(10) == []


def work(what: str) -> None:
    pass


async def awork(what: str) -> None:
    await asyncio.sleep(0)


def boom(what: str) -> None:
    raise LookupError(what)


async def aboom(what: str) -> None:
    raise LookupError(what)


class Callable_:
    def __call__(self, what: str) -> None:
        pass


FUNCS: list[Callable[..., Any]] = [work, awork, partial(work), Callable_(), boom]


def facts(span: ReadableSpan) -> dict[str, Any]:
    """All of a span that does not differ from one run to the next."""
    scope = span.instrumentation_scope
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "status": (span.status.status_code, span.status.description),
        "events": [event.name for event in span.events],
        "links": list(span.links),
        "scope": scope and (scope.name, scope.version, scope.schema_url),
    }


def test_the_spans_are_those_of_fastapis_own_tasks(traced: FastAPI, recorded: Recorded) -> None:
    @traced.get("/own")
    def own(background_tasks: fastapi.BackgroundTasks) -> None:
        for func in FUNCS:
            background_tasks.add_task(func, "it")

    @traced.get("/ours")
    def ours(background_tasks: BackgroundTasks) -> None:
        for func in FUNCS:
            background_tasks.add_task(func, "it")

    get(traced, "/own")
    get(traced, "/ours")
    request_of = {path: recorded.span(f"GET /{path}") for path in ("own", "ours")}
    spans = recorded.spans(NAME)
    of = {
        path: [span for span in spans if trace_of(span) == trace_of(request)]
        for path, request in request_of.items()
    }
    assert len(of["own"]) == len(FUNCS)
    assert [facts(span) for span in of["ours"]] == [facts(span) for span in of["own"]]
    for path, request in request_of.items():
        assert {parent_of(span) for span in of[path]} == {id_of(request)}


@pytest.mark.parametrize("func", [boom, aboom], ids=lambda func: func.__name__)
def test_the_exception_of_a_task_is_left_as_it_was(
    recorded: Recorded, func: Callable[..., Any]
) -> None:
    frames: list[list[str]] = []

    def note(event: Any) -> None:
        traceback, names = event.exception.__traceback__, []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_filename)
            traceback = traceback.tb_next
        frames.append(names)

    app = FastAPI(telemetry={"tracer_provider": recorded.tracer_provider})
    init_app(app, on_error=note)

    @app.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(func, "it")

    get(app)
    (span,) = recorded.spans(NAME)
    assert span.status.status_code is StatusCode.ERROR
    (seen,) = frames
    assert not any("/fastapi/" in name.partition("site-packages")[2] for name in seen)


def test_tasks_that_do_not_ask_for_the_dependency(recorded: Recorded) -> None:
    app = make(recorded)

    @app.get("/")
    async def view() -> None:
        bgadapters.add_task(work, "it")

    get(app)
    assert parent_of(recorded.span(NAME)) == id_of(recorded.span("GET /"))


def test_a_task_that_another_one_adds(traced: FastAPI, recorded: Recorded) -> None:
    def more() -> None:
        bgadapters.add_task(work, "it")

    @traced.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(more)

    get(traced)
    request = id_of(recorded.span("GET /"))
    assert [parent_of(span) for span in recorded.spans(NAME)] == [request, request]


def test_what_runs_although_the_view_has_failed(traced: FastAPI, recorded: Recorded) -> None:
    @traced.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(boom, "discarded")
        background_tasks.options(always=True).add_task(work, "it")
        raise KeyError("the view")

    get(traced)
    assert parent_of(recorded.span(NAME)) == id_of(recorded.span("GET /"))


def test_a_span_of_the_task_is_below_its_own(traced: FastAPI, recorded: Recorded) -> None:
    def step() -> None:
        with recorded.tracer.start_as_current_span("step"):
            pass

    async def astep() -> None:
        step()

    @traced.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(step)
        background_tasks.add_task(astep)

    get(traced)
    assert [parent_of(s) for s in recorded.spans("step")] == [
        id_of(span) for span in recorded.spans(NAME)
    ]


def test_what_becomes_of_another_task_leaves_the_span_of_the_one_that_runs(
    traced: FastAPI, recorded: Recorded
) -> None:
    def wait_for_another() -> None:
        ended = threading.Event()
        with bgadapters.BackgroundTasks() as tasks:
            tasks.add_task(work, "it")
            tasks.add_task(ended.set)
        assert ended.wait(10)
        with recorded.tracer.start_as_current_span("step"):
            pass

    @traced.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(wait_for_another)

    get(traced)
    span, step = recorded.span(NAME), recorded.span("step")
    assert parent_of(step) == id_of(span)
    assert (span.end_time or 0) >= (step.end_time or 0) > 0


def test_hooks_of_the_application_are_called_outside_of_the_span(recorded: Recorded) -> None:
    seen: list[int] = []

    def note(event: bgadapters.TaskEvent) -> None:
        if event.outcome is not None:
            seen.append(trace.get_current_span().get_span_context().span_id)

    app = FastAPI(telemetry={"tracer_provider": recorded.tracer_provider})
    init_app(app, on_event=note)

    @app.get("/")
    async def view(background_tasks: BackgroundTasks) -> None:
        for func in (work, awork, boom):
            background_tasks.add_task(func, "it")

    get(app)
    assert seen == [id_of(recorded.span("fastapi.endpoint"))] * 3


def test_the_tasks_of_a_websocket(traced: FastAPI, recorded: Recorded) -> None:
    @traced.websocket("/")
    async def view(websocket: WebSocket, background_tasks: BackgroundTasks) -> None:
        await websocket.accept()
        background_tasks.add_task(work, "it")
        await websocket.receive_text()

    with TestClient(traced) as client, client.websocket_connect("/") as socket:
        socket.send_text("done")
    assert bgadapters.drain(10) == []
    assert trace_of(recorded.span(NAME)) == trace_of(recorded.span("WS /"))


@pytest.mark.usefixtures("instrumented")
def test_nothing_of_a_request_is_kept_after_its_tasks(
    traced: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "bgadapters")  # a record of a failure keeps its frames

    class Kept:
        pass

    of_the_request: ContextVar[Kept] = ContextVar("of_the_request")
    refs: list[ref[Any]] = []

    @traced.get("/")
    async def view(background_tasks: BackgroundTasks) -> None:
        of_the_request.set(kept := Kept())
        refs.extend((ref(kept), ref(background_tasks.batch)))
        for func in (work, awork, boom, aboom):
            background_tasks.add_task(func, "it")

    get(traced)
    deadline = time.monotonic() + PATIENCE
    while any(each() for each in refs):  # a worker may be about to let go of the queue
        assert time.monotonic() < deadline
        gc.collect()
    assert len(refs) == 2


@pytest.mark.parametrize(
    "telemetry",
    [{"tracing": False}, {"operation_spans": False}, {"exclude": lambda scope: True}],
    ids=lambda telemetry: next(iter(telemetry)),
)
def test_what_is_turned_off_in_fastapi_is_off_here(
    recorded: Recorded, telemetry: dict[str, Any]
) -> None:
    app = make(recorded, meter_provider=recorded.meter_provider, **telemetry)

    @app.get("/own")
    def own(background_tasks: fastapi.BackgroundTasks) -> None:
        background_tasks.add_task(work, "it")

    @app.get("/ours")
    def ours(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work, "it")

    get(app, "/own")
    get(app, "/ours")
    assert recorded.spans(NAME) == []


@pytest.mark.usefixtures("instrumented")
def test_a_task_has_one_span_where_the_instrumentor_is_active_too(
    traced: FastAPI, recorded: Recorded
) -> None:
    @traced.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work, "it")
        background_tasks.add_task(awork, "it")

    get(traced)
    assert len(recorded.spans(NAME)) == 2
    assert recorded.spans("run ") == []
    assert len(recorded.points("bgadapters.task.finished")) == 2


@pytest.mark.usefixtures("instrumented")
def test_the_instrumentor_opens_spans_where_fastapi_is_told_not_to(recorded: Recorded) -> None:
    app = make(recorded, operation_spans=False)

    @app.get("/")
    def view(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(work, "it")

    get(app)
    assert recorded.spans(NAME) == []
    assert parent_of(recorded.span("run ")) == id_of(recorded.span("GET /"))


def test_nothing_of_it_is_imported_while_telemetry_is_off() -> None:
    """The providers are those that OpenTelemetry has while nobody has set any."""
    import subprocess

    code = (
        "import sys\n"
        "from fastapi import FastAPI\n"
        "from starlette.testclient import TestClient\n"
        "from bgadapters.fastapi import BackgroundTasks, init_app\n"
        "app = FastAPI()\n"
        "init_app(app)\n"
        "@app.get('/')\n"
        "def view(background_tasks: BackgroundTasks):\n"
        "    background_tasks.add_task(print, 'ran')\n"
        "TestClient(app).get('/')\n"
        "assert 'bgadapters.fastapi.telemetry' in sys.modules\n"
        "assert 'bgadapters.fastapi.spans' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ran\n"
