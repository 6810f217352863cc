"""What an event knows of its task: ids, times, the request, the outcome."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from unittest import mock

import pytest

from bgadapters import BackgroundTasks, TaskEvent, TaskInfo
from bgadapters.adapters import (
    FrameworkHooks,
    LiveTasks,
    Precondition,
    Runtime,
    Settings,
    Task,
)
from bgadapters.core.model import record
from tests.core.ways import Flavour, Log, MakeRuntime, Run, in_threads, reached
from tests.our_log import OurLog


def fail() -> None:
    raise KeyError("x")


def test_an_event_tells_ids_times_and_the_request(
    make_runtime: MakeRuntime, log: Log, run: Run, flavour: Flavour
) -> None:
    before = time.time()
    runtime = make_runtime(on_event=log.append)
    queue = BackgroundTasks(runtime=runtime, path="/orders", method="POST")
    queue.options(name="good").add_task(flavour(lambda: time.sleep(0.02)))
    queue.options(name="bad").add_task(flavour(fail))
    time.sleep(0.01)
    run(queue)
    events: list[TaskEvent] = log
    assert {(e.method, e.path, e.attempt) for e in events} == {("POST", "/orders", 1)}
    assert len({event.queue_id for event in events}) == 1
    assert [(e.kind, e.name, e.outcome, e.reason) for e in events[2:]] == [
        ("started", "good", None, None),
        ("succeeded", "good", "succeeded", None),
        ("started", "bad", None, None),
        ("failed", "bad", "failed", None),
    ]
    added, started, ended = events[0], events[2], events[3]
    assert added.task_id == started.task_id == ended.task_id != events[1].task_id
    assert (added.started_at, added.wait, started.ended_at, started.duration) == (None,) * 4
    assert added.thread is None
    assert started.added_at == ended.added_at == added.added_at
    assert started.started_at == ended.started_at
    assert ended.added_at is not None
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.wait is not None
    assert ended.duration is not None
    assert before - 1 < ended.added_at < ended.started_at < ended.ended_at < time.time() + 1
    assert ended.wait == pytest.approx(ended.started_at - ended.added_at, abs=1e-4)
    assert ended.duration == pytest.approx(ended.ended_at - ended.started_at, abs=1e-4)
    assert ended.wait >= 0.009
    assert ended.duration >= 0.019
    assert started.loop is ended.loop is started.task.is_async
    assert started.thread == ended.thread is not None
    assert repr(ended) == "<TaskEvent succeeded good>"


def test_a_task_of_which_nobody_hears_makes_no_record(queue: BackgroundTasks) -> None:
    queue.add_task(int)
    (task,) = queue.batch.waiting
    in_threads(queue)
    assert task.record is None
    assert queue.runtime.adds_plainly


def test_who_hears_of_errors_alone_gets_the_times_as_well(
    make_runtime: MakeRuntime, log: Log
) -> None:
    queue = BackgroundTasks(runtime=make_runtime(on_error=log.append))
    queue.add_task(int)
    time.sleep(0.02)
    queue.add_task(fail)
    time.sleep(0.02)
    in_threads(queue)
    (event,) = log
    assert event.thread.startswith("bgadapters-")
    assert event.ended_at >= event.started_at >= event.added_at
    assert 0.019 <= event.wait < 10


@pytest.mark.parametrize("has_options", [False, True])
def test_each_time_is_that_of_the_task_where_a_queue_goes_on_for_long(
    has_options: bool, log: Log
) -> None:
    """Tasks that tasks add, and those of a connection, are not as old as the first one."""
    queue = LiveTasks()
    adds = queue.options(name="n") if has_options else queue
    queue.batch.recorded(Task(int, (), copy_context()))

    def note() -> None:
        running = queue.batch.running
        assert running is not None
        assert running.record is not None
        log.append(running.record.added)

    adds.add_task(note)
    assert queue.runtime.drain(10) == []
    first = log[0]
    time.sleep(0.02)
    adds.add_task(note)
    assert queue.runtime.drain(10) == []
    queue.end()
    assert log[1] - first >= 0.019


def test_what_a_task_adds_to_its_own_queue_has_a_time_of_its_own(queue: BackgroundTasks) -> None:
    seen: list[float] = []

    def second() -> None:
        running = queue.batch.running
        assert running is not None
        assert running.record is not None
        assert running.record.added is not None
        seen.append(running.record.added)

    def first() -> None:
        time.sleep(0.02)
        queue.add_task(second)

    queue.add_task(first)
    began = queue.batch.added
    assert began is not None
    in_threads(queue)
    assert seen[0] - began >= 0.019


def test_ids_are_unique_among_processes() -> None:
    first, second = record.id_of(record.next_number()), record.id_of(record.next_number())
    assert first != second
    assert len(first) == 32
    assert first[:16] == second[:16]
    with mock.patch.object(os, "getpid", return_value=-1):  # as in a forked child
        assert record.id_of(1)[:16] != first[:16]


def test_a_middleware_reads_the_same(make_runtime: MakeRuntime, log: Log, run: Run) -> None:
    class Middleware:
        def capture(self, task: TaskInfo) -> None:
            log.append((task.id, task.queue_id, task.attempt, task.method, task.path))

        def around(self, task: TaskInfo, _: Any) -> Any:
            log.append((task.id, task.queue_id, task.attempt, task.method, task.path))
            return threading.Lock()  # something that can be entered

    events: list[TaskEvent] = []
    runtime = make_runtime(on_event=events.append, task_middleware=[Middleware()])
    queue = BackgroundTasks(runtime=runtime, path="/", method="GET")
    queue.add_task(int)
    run(queue)
    event = events[-1]
    assert set(log) == {(event.task_id, event.queue_id, 1, "GET", "/")}
    assert len(log) == 2
    assert len({each.task_id for each in events}) == 1


def test_an_event_of_a_task_in_no_queue_is_complete() -> None:
    """As authors of tests make one."""
    event = TaskEvent("failed", Task(int, (), copy_context()), KeyError())
    assert (event.method, event.path, event.added_at, event.wait) == (None,) * 4
    assert event.queue_id != event.task_id


def test_each_task_ends_once(
    make_runtime: MakeRuntime, log: Log, errors: Callable[[], list[str]]
) -> None:
    """One on which a drain has given up is told of as that, whatever becomes of it."""
    heard: Log = []
    runtime = make_runtime(
        on_event=lambda event: heard.append((event.kind, event.name, event.reason)),
        on_error=log.append,
    )
    started, may_end = threading.Event(), threading.Event()

    def hangs(then: Callable[[], object]) -> None:
        started.set()
        reached(may_end)
        then()

    queues = [BackgroundTasks(runtime=runtime) for _ in range(2)]
    ends: tuple[Callable[[], object], ...] = (int, fail)
    for queue, then in zip(queues, ends, strict=True):
        started.clear()
        queue.options(name="fails" if then is fail else "ends").add_task(hangs, then)
        queue.options(name="waits").add_task(int)
        queue.release()
        reached(started)
    del heard[:]
    assert sorted(runtime.drain(0)) == ["ends", "fails", "waits", "waits"]
    finished = [threading.Event() for _ in queues]
    for queue, each in zip(queues, finished, strict=True):
        assert queue.batch.on_finished(each.set)
    may_end.set()
    for each in finished:
        reached(each)
    why = "not finished within the drain timeout of 0 s"
    assert sorted(heard) == sorted(
        ("abandoned", name, why) for name in ("ends", "fails", "waits", "waits")
    )
    assert {(e.kind, e.exception, e.reason, e.outcome) for e in log} == {
        ("abandoned", None, why, "abandoned")
    }
    by_name = {event.name: event for event in log}
    assert by_name["waits"].started_at is None
    assert by_name["fails"].duration is not None
    assert errors() == ["Background task fails failed: KeyError: 'x'"]  # it is not hidden


def test_an_async_task_that_is_cancelled_as_it_is_abandoned_is_told_of_once(
    make_runtime: MakeRuntime, log: Log, errors: Callable[[], list[str]]
) -> None:
    import asyncio

    started = threading.Event()

    async def hangs() -> None:
        started.set()
        await asyncio.Event().wait()

    runtime = make_runtime(on_error=lambda event: log.append((event.kind, event.exception)))
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(hangs)
    queue.release()
    reached(started)
    assert len(runtime.drain(0)) == 1
    assert log == [("abandoned", None)]
    assert errors() == []


def test_a_discard_says_why(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(on_event=log.append)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    why = KeyError("view")
    queue.close(why)
    event = log[-1]
    assert (event.kind, event.outcome, event.exception) == ("discarded", "discarded", why)
    assert event.reason == "the response failed with KeyError: 'view'"
    assert event.started_at is event.wait is event.duration is None
    assert event.ended_at >= event.added_at


def test_what_waits_for_a_commit_of_its_own_stays_in_its_queue(log: Log) -> None:
    """A task adds others in a transaction: they go on by themselves, under the same ids."""
    condition, held = Precondition(), threading.Event()
    waits_for: list[Precondition] = []
    hooks = FrameworkHooks(preconditions=lambda _: list(waits_for))
    settings = Settings(on_event=lambda event: log.append((event.kind, event.name, event.queue_id)))
    runtime = Runtime(settings, hooks)
    queue = BackgroundTasks(runtime=runtime)

    def first() -> None:
        waits_for.append(condition)
        queue.options(name="second").add_task(held.set)

    queue.options(name="first").add_task(first)
    queue.release()
    finished = threading.Event()
    if queue.batch.on_finished(finished.set):
        reached(finished)
    assert not held.is_set()
    condition.resolve(True)
    assert runtime.drain(10) == []
    assert held.is_set()
    assert [each[:2] for each in log if each[1] == "second"] == [
        ("added", "second"),
        ("started", "second"),
        ("succeeded", "second"),
    ]
    assert {queue_id for _, _, queue_id in log} == {queue.batch.id}


def test_what_was_given_up_is_not_told_of_as_interrupted(make_runtime: MakeRuntime) -> None:
    told: Log = []
    runtime = make_runtime(on_event=lambda event: told.append((event.kind, event.reason)))
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    queue.batch.release(int)
    task = queue.batch.take(False)
    assert task is not None
    left = queue.batch.abandon()
    runtime.events.abandoned([(queue.batch, each) for each in left], 1)
    runtime.events.interrupted(queue.batch, task, KeyboardInterrupt())
    runtime.events.discarded(queue.batch, [], "nothing is left")
    assert told == [
        ("added", None),
        ("abandoned", "not finished within the drain timeout of 1 s"),
    ]


def test_a_lost_queue_names_what_has_left_its_order(log: Log, our_log: OurLog) -> None:
    runtime = Runtime(Settings(on_event=lambda event: log.append((event.kind, event.name))))
    queue = BackgroundTasks(runtime=runtime)
    queue.options(name="own").add_task(int)
    queue.options(name="apart", priority=1).add_task(int)
    del log[:]
    with pytest.warns(ResourceWarning):
        del queue
        gc.collect()
    assert log == [("discarded", "own"), ("discarded", "apart")]
    assert our_log.warnings[0].endswith(": own, apart")
    assert runtime.in_flight.in_use == 0
