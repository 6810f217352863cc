"""Promise 18: what is told of a task is told in its own context, and inside the scope."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any
from weakref import WeakSet

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import FrameworkHooks, Precondition, Runtime, Settings
from bgadapters.core import host
from bgadapters.core.drivers.inline import InlineDriver
from tests.core.ways import Flavour, Log, MakeRuntime, Run, in_threads, reached

request_id: ContextVar[str] = ContextVar("request_id", default="nobody's")
scope_of: ContextVar[str] = ContextVar("scope_of", default="none")


def fail() -> None:
    raise KeyError("x")


@pytest.fixture
def records() -> Iterator[Log]:
    """What is logged, with the request's id and the scope as a filter of an application sees it."""
    got: Log = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            got.append((record.getMessage(), request_id.get(), scope_of.get()))

    handler = Handler()
    logger = logging.getLogger("bgadapters")
    logger.addHandler(handler)
    yield got
    logger.removeHandler(handler)


@contextmanager
def hook_scope() -> Iterator[None]:
    token = scope_of.set(f"hooks of {request_id.get()}")
    yield
    scope_of.reset(token)


def enter_to_log() -> None:
    scope_of.set(f"log of {request_id.get()}")


def make(log: Log, **given: Any) -> Runtime:
    def hook(event: TaskEvent) -> None:
        log.append((event.kind, event.name, request_id.get(), scope_of.get()))

    hooks = FrameworkHooks(hook_scope=hook_scope, enter_to_log=enter_to_log)
    return Runtime(Settings(on_event=hook, **given), hooks)


def queue_of(who: str, runtime: Runtime, *funcs: Callable[[], object]) -> BackgroundTasks:
    """The queue of a request, made in a context of its own."""

    def request() -> BackgroundTasks:
        request_id.set(who)
        queue = BackgroundTasks(runtime=runtime)
        for func in funcs:
            queue.options(name=f"{who} {func.__name__}").add_task(func)
        return queue

    return Context().run(request)


def test_what_runs_is_told_of_in_its_own_context_and_scope(
    log: Log, records: Log, run: Run, flavour: Flavour
) -> None:
    request_id.set("another's")
    runtime = make(log)
    for who in "ada", "bob":
        run(queue_of(who, runtime, flavour(fail)))
    assert log == [
        (kind, f"{who} fail", who, "none" if kind == "added" else f"hooks of {who}")
        for who in ("ada", "bob")
        for kind in ("added", "started", "failed")
    ]
    assert records == [
        (f"Background task {who} fail failed: KeyError: 'x'", who, f"log of {who}")
        for who in ("ada", "bob")
    ]
    assert scope_of.get() == "none"


def test_a_discard_is_told_of_in_the_context_of_the_discarded(log: Log, records: Log) -> None:
    request_id.set("another's")
    queue = queue_of("ada", make(log), fail, int)
    queue.close(KeyError("view"))
    assert log[2:] == [
        ("discarded", "ada fail", "ada", "hooks of ada"),
        ("discarded", "ada int", "ada", "hooks of ada"),
    ]
    ((message, who, scope),) = records
    assert message.startswith("2 background task(s) discarded")
    assert (who, scope) == ("ada", "log of ada")
    assert request_id.get() == "another's"


def test_so_it_is_where_nothing_has_released_a_queue(log: Log, records: Log) -> None:
    queue = queue_of("ada", make(log), fail)
    request_id.set("another's")
    with pytest.warns(ResourceWarning):
        del queue
        gc.collect()
    assert log[-1] == ("discarded", "ada fail", "ada", "hooks of ada")
    assert records[0][1:] == ("ada", "log of ada")


def test_so_it_is_where_a_precondition_has_failed(log: Log, records: Log) -> None:
    runtime = make(log)
    queue = queue_of("ada", runtime)
    condition = Precondition()
    queue_task = queue.options(name="task")
    runtime.preconditions = lambda _: [condition]
    request_id.set("ada")
    queue_task.add_task(int)
    request_id.set("another's")
    queue.release()
    condition.resolve(False)
    assert log[-1] == ("discarded", "task", "ada", "hooks of ada")
    assert records[0][1:] == ("ada", "log of ada")


def test_what_is_abandoned_is_told_of_one_by_one(log: Log, records: Log) -> None:
    """And named in one line, which is nobody's if it names the tasks of several requests."""
    runtime = make(log)
    started, may_end = threading.Event(), threading.Event()

    def hangs() -> None:
        started.set()
        reached(may_end)

    request_id.set("another's")
    for requests in ("ada",), ("bob", "cyd"):
        del log[:]
        for who in requests:
            started.clear()
            queue_of(who, runtime, hangs, fail).release()
            reached(started)
        assert len(runtime.drain(0)) == 2 * len(requests)
        told = [each for each in log if each[0] == "abandoned"]
        assert sorted(told) == sorted(
            ("abandoned", f"{who} {name}", who, f"hooks of {who}")
            for who in requests
            for name in ("hangs", "fail")
        )
    may_end.set()
    assert [each[1:] for each in records] == [
        ("ada", "log of ada"),
        ("nobody's", "log of nobody's"),
    ]


def test_a_broken_scope_costs_no_hook_and_no_task(
    log: Log, errors: Callable[[], list[str]], run: Run
) -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        if breaks_on_entry:
            fail()
        yield
        fail()

    hooks = FrameworkHooks(hook_scope=broken, enter_to_log=fail)
    runtime = Runtime(Settings(on_event=lambda event: log.append(event.kind)), hooks)
    for breaks_on_entry in True, False:  # noqa: B007  the scope reads it
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(divmod, 1, 0)
        run(queue)
    assert log == ["added", "started", "failed"] * 2
    said = "What the framework enters around logs and hooks failed"
    task = "Background task builtins.divmod failed: ZeroDivisionError: integer division or modulo"
    assert [each.split(" by zero")[0] for each in errors()] == [said, said, task, said] * 2


def test_a_hook_that_is_told_of_a_discard_knows_on_whose_behalf(make_runtime: MakeRuntime) -> None:
    """It may not wait for all tasks in the middle of one."""
    raised: list[BaseException] = []

    def hook(event: TaskEvent) -> None:
        if event.kind == "discarded":
            try:
                event_runtime.drain(0)
            except RuntimeError as exc:
                raised.append(exc)

    event_runtime = make_runtime(on_event=hook)

    def request() -> None:
        inner = BackgroundTasks(runtime=event_runtime)
        inner.add_task(int)
        inner.close(KeyError())

    queue = BackgroundTasks(runtime=event_runtime)
    queue.add_task(request)
    in_threads(queue)
    assert len(raised) == 1


class Body:
    """What a request has, and its context keeps."""


@pytest.mark.parametrize("is_heard", [False, True])
def test_nothing_of_a_request_is_alive_after_its_tasks(
    log: Log, run: Run, flavour: Flavour, is_heard: bool
) -> None:
    alive: WeakSet[Body] = WeakSet()
    held: ContextVar[Body] = ContextVar("held")
    runtime = Runtime(
        Settings(on_event=(lambda event: log.append(event.kind)) if is_heard else None)
    )

    def request() -> BackgroundTasks:
        body = Body()
        alive.add(body)
        held.set(body)
        queue = BackgroundTasks(runtime=runtime, path="/", method="GET")
        queue.add_task(flavour(lambda body: None), body)
        queue.add_task(flavour(lambda body: fail()), body)
        queue.options(always=True).add_task(flavour(lambda: None))
        return queue

    logging.disable(logging.CRITICAL)  # pytest keeps records, and so exceptions and their frames
    for _ in range(2):
        context = copy_context()
        queue = context.run(request)
        context.run(run, queue)
        del context, queue
    logging.disable(logging.NOTSET)
    gc.collect()
    assert not alive
    runtime.scheduler.background.stop()


def test_loops_and_threads_are_of_no_request(make_runtime: MakeRuntime, log: Log) -> None:
    """They outlive the request that has happened to start them."""
    alive: WeakSet[Body] = WeakSet()
    held: ContextVar[Body | None] = ContextVar("held", default=None)
    runtime = make_runtime(stall_warning=0.01, max_workers=1)

    has_looked = threading.Event()

    async def task() -> None: ...

    def look() -> None:
        log.append(held.get())
        has_looked.set()

    def request() -> None:
        body = Body()
        alive.add(body)
        held.set(body)
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(task)
        queue.add_task(int)
        in_threads(queue)
        runtime.scheduler.pool.submit(look)
        inline = InlineDriver(runtime.scheduler.execution)
        drivers.append(inline)
        other = BackgroundTasks(runtime=runtime)
        other.add_task(task)
        runtime.scheduler.enter(other.batch)
        other.batch.release(int)
        inline.run(other.batch)

    drivers: list[InlineDriver] = []
    copy_context().run(request)
    runtime.drain(10)
    reached(has_looked)
    gc.collect()
    assert not alive
    assert log == [None]
    assert drivers


def test_an_agent_that_follows_requests_into_threads_finds_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenTelemetry's has the start of a thread copy the context, as newer Pythons do."""
    seen: Log = []
    start = threading.Thread.start

    def follow(thread: threading.Thread) -> None:
        seen.append(request_id.get())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", follow)
    request_id.set("ada")
    host.start_thread(threading.Thread(target=int))
    assert seen == ["nobody's"]


def test_a_line_that_names_others_is_logged_in_no_request(
    make_runtime: MakeRuntime, records: Log
) -> None:
    """Such as the one about a full queue, where one request waits for the tasks of others."""
    may_end = threading.Event()
    runtime = make_runtime(max_pending=1, max_workers=1)
    first = queue_of("ada", runtime, lambda: reached(may_end))
    first.release()
    second = queue_of("bob", runtime, int)

    async def wait() -> None:
        request_id.set("bob")
        await second.await_capacity()
        may_end.set()
        await second.arelease()

    asyncio.run(wait())
    ((message, who, _),) = records
    assert "none has finished" in message
    assert who == "nobody's"
