"""A task asks what it is, and what has become of its response."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from bgadapters import BackgroundTasks, ResponseOutcome, TaskEvent, TaskInfo, current_task
from bgadapters.adapters import Runtime
from tests.core.ways import PATIENCE, Log, MakeRuntime, Run, reached


def it() -> TaskInfo:
    task = current_task()
    assert task is not None
    return task


def test_outside_of_tasks_there_is_none(queue: BackgroundTasks, log: Log) -> None:
    assert current_task() is None
    queue.add_task(str)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert current_task() is None


def test_it_is_what_events_tell_of(make_runtime: MakeRuntime, run: Run, flavour: Any) -> None:
    heard: list[TaskEvent] = []
    seen: list[TaskInfo] = []

    def look() -> None:
        seen.append(it())

    queue = BackgroundTasks(
        runtime=make_runtime(on_event=heard.append), path="/orders", method="POST"
    )
    queue.options(name="look").add_task(flavour(look))
    queue.add_task(flavour(look))
    run(queue)
    first, second = seen
    assert first.id == heard[0].task_id != second.id == heard[1].task_id
    assert (first.name, first.attempt, first.path, first.method) == ("look", 1, "/orders", "POST")
    assert first.options.name == "look"
    assert (first.deadline, first.response) == (None, None)
    assert first.queue_id == second.queue_id


def test_its_id_is_the_same_in_all_attempts(runtime: Runtime, run: Run, flavour: Any) -> None:
    seen: list[tuple[str, int]] = []

    def fails_twice() -> None:
        task = it()
        seen.append((task.id, task.attempt))
        if task.attempt < 3:
            raise ConnectionError

    queue = BackgroundTasks(runtime=runtime)
    queue.options(retries=2, backoff=0).add_task(flavour(fails_twice))
    run(queue)
    assert runtime.drain(PATIENCE) == []
    assert [attempt for _, attempt in seen] == [1, 2, 3]
    assert len({each for each, _ in seen}) == 1


def test_it_is_known_in_what_the_task_starts(queue: BackgroundTasks, log: Log) -> None:
    async def task() -> None:
        def name() -> str:
            return it().name

        async def aname() -> str:
            return it().name

        log.append(await asyncio.to_thread(name))
        log.append(await asyncio.create_task(aname()))

    def sync() -> None:
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(lambda: log.append(it().name),)
        )
        thread.start()
        thread.join()
        bare = threading.Thread(target=lambda: log.append(current_task()))
        bare.start()
        bare.join()

    queue.options(name="async").add_task(task)
    queue.options(name="sync").add_task(sync)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["async", "async", "sync", None]


def test_what_outlives_its_queue_is_part_of_none(queue: BackgroundTasks, log: Log) -> None:
    may_look = threading.Event()

    def look() -> None:
        reached(may_look)
        log.append(current_task())

    threads: list[threading.Thread] = []

    def starts() -> None:
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(look,)))
        threads[0].start()

    queue.add_task(starts)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    may_look.set()
    threads[0].join()
    assert log == [None]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ([{"status": 201}], ResponseOutcome(201, None, False)),
        ([{"status": "404 Not Found"}], ResponseOutcome(404, None, False)),
        ([{"status": 200}, {"client_left": True}], ResponseOutcome(200, None, True)),
        ([{"client_left": True}, {"status": 200}], ResponseOutcome(200, None, True)),
    ],
)
def test_how_the_response_has_ended(
    queue: BackgroundTasks, run: Run, noted: list[dict[str, Any]], expected: ResponseOutcome
) -> None:
    seen: list[ResponseOutcome | None] = []
    queue.add_task(lambda: seen.append(it().response))
    for each in noted:
        queue.note_response(**each)
    run(queue)
    assert seen == [expected]
    assert expected.succeeded


def test_a_response_that_has_failed_tells_why(queue: BackgroundTasks) -> None:
    seen: list[ResponseOutcome | None] = []
    failure = ValueError("broken")
    for delay in (0.0, 0.01):
        queue.options(always=True, delay=delay).add_task(lambda: seen.append(it().response))
    queue.note_response(500)
    queue.close(failure)
    assert queue.runtime.drain(PATIENCE) == []
    assert seen == [ResponseOutcome(500, failure, False)] * 2
    assert seen[0] is not None
    assert not seen[0].succeeded


def test_one_that_was_flushed_knows_what_is_known_by_then(queue: BackgroundTasks) -> None:
    seen: list[ResponseOutcome | None] = []
    may_look, has_looked = threading.Event(), threading.Event()

    def look_twice() -> None:
        seen.append(it().response)
        has_looked.set()
        reached(may_look)
        seen.append(it().response)

    queue.add_task(look_twice)
    queue.flush()
    reached(has_looked)
    queue.note_response(200, client_left=True)
    queue.release()
    may_look.set()
    assert queue.runtime.drain(PATIENCE) == []
    assert seen == [None, ResponseOutcome(200, None, True)]


def test_a_task_that_leaves_the_order_knows_it_too(queue: BackgroundTasks) -> None:
    seen: list[ResponseOutcome | None] = []
    queue.options(priority=1).add_task(lambda: seen.append(it().response))
    queue.note_response(204)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert seen == [ResponseOutcome(204, None, False)]


def test_a_middleware_reads_the_same(make_runtime: MakeRuntime) -> None:
    seen: list[tuple[Any, Any]] = []

    def middleware(task: TaskInfo) -> Any:
        from contextlib import nullcontext

        seen.append((task.response, task.deadline is not None))
        return nullcontext()

    queue = BackgroundTasks(runtime=make_runtime(task_middleware=[middleware]))
    queue.options(timeout=PATIENCE).add_task(str)
    queue.note_response(200)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert seen == [(ResponseOutcome(200, None, False), True)]
