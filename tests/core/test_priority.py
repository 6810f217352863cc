"""Of what waits for a worker thread, the higher priority goes first."""

from __future__ import annotations

import asyncio
import random
import threading
from functools import partial

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from bgadapters.core.drivers.pool import Pool
from tests.core.ways import Log, MakeRuntime, reached


def run_in_order(priorities: list[int]) -> list[tuple[int, int]]:
    """Submit jobs while the one worker is busy; return the order in which they were called."""
    pool, log = Pool(max_workers=1), list[tuple[int, int]]()
    started, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        reached(go_on)

    pool.submit(hold)
    reached(started)
    for number, priority in enumerate(priorities):
        pool.submit(partial(log.append, (priority, number)), priority)
    pool.submit(done.set, -101)
    go_on.set()
    reached(done)
    return log


@pytest.mark.parametrize(
    "priorities",
    [
        [0, 0, 0],
        [0, 0, 5, 0],
        [0, 0, -5, 0],
        [0, 0, 1, 2, 0, -1, 0, 2, 100, -100],
        [-3, -3, 0, 0],
        [7, 7, 0],
    ],
)
def test_the_higher_goes_first_and_equals_in_the_order_of_coming(priorities: list[int]) -> None:
    called = run_in_order(priorities)
    assert called == sorted(called, key=lambda job: (-job[0], job[1]))
    assert len(called) == len(priorities)


def test_any_mix_is_called_in_order() -> None:
    chance = random.Random(1)
    for _ in range(30):
        priorities = [chance.choice([0, 0, 0, -2, 1, 3]) for _ in range(40)]
        called = run_in_order(priorities)
        assert called == sorted(called, key=lambda job: (-job[0], job[1]))
        assert len(called) == 40


def test_many_workers_call_each_job_once(log: Log) -> None:
    pool, done = Pool(max_workers=4), threading.Semaphore(0)

    def work(number: int) -> None:
        log.append(number)
        done.release()

    def submit(start: int) -> None:
        for number in range(start, start + 500):
            pool.submit(partial(work, number), number % 5 - 2)

    threads = [threading.Thread(target=submit, args=(n * 500,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(2000):
        assert done.acquire(timeout=10)
    assert sorted(log) == list(range(2000))
    assert pool._heap == []


def test_tasks_have_a_priority(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(max_workers=1)
    started, go_on = threading.Event(), threading.Event()
    with BackgroundTasks(runtime=runtime) as first:
        first.add_task(started.set)
        first.add_task(reached, go_on)
    reached(started)
    for priority in [0, -1, 0, 10]:
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(priority=priority).add_task(log.append, priority)
            queue.options(priority=priority).add_task(log.append, priority)
    go_on.set()
    assert runtime.drain() == []
    assert log == [10, 10, 0, 0, 0, 0, -1, -1]


def hold_the_worker(runtime: Runtime) -> threading.Event:
    started, go_on = threading.Event(), threading.Event()
    with BackgroundTasks(runtime=runtime) as first:
        first.add_task(started.set)
        first.add_task(reached, go_on)
    reached(started)
    return go_on


def test_a_task_has_a_priority(make_runtime: MakeRuntime, log: Log) -> None:
    """It leaves the order of its response."""
    runtime = make_runtime(max_workers=1)
    go_on = hold_the_worker(runtime)
    with BackgroundTasks(runtime=runtime) as earlier:
        earlier.add_task(log.append, "earlier")
    with BackgroundTasks(runtime=runtime) as queue:
        queue.add_task(log.append, "a")
        for priority in (-100, 0, 100, 5):
            queue.options(priority=priority).add_task(log.append, priority)
        queue.add_task(log.append, "b")
    go_on.set()
    assert runtime.drain() == []
    assert log == [100, 5, "earlier", "a", 0, "b", -100]


def test_what_fails_the_response_discards_it(make_runtime: MakeRuntime, log: Log) -> None:
    queue = BackgroundTasks(runtime=make_runtime())
    queue.options(priority=5).add_task(log.append, "discarded")
    queue.options(priority=5, always=True).add_task(log.append, "always")
    queue.close(KeyError())
    assert queue.runtime.drain() == []
    assert log == ["always"]


def test_async_tasks_of_one_response_begin_in_their_order(
    make_runtime: MakeRuntime, log: Log
) -> None:
    """A loop begins all that is released at once: nothing else waits for a turn there."""
    runtime = make_runtime()

    async def note(name: object) -> None:
        log.append(name)

    async def main() -> None:
        async with BackgroundTasks(runtime=runtime) as queue:
            queue.add_task(note, "in order")
            for priority in (-5, 5, 50):
                queue.options(priority=priority).add_task(note, priority)
        assert await runtime.adrain() == []

    asyncio.run(main())
    assert log == [50, 5, "in order", -5]


def test_who_waits_for_a_response_waits_for_what_has_left_its_order_too(
    runtime: Runtime, log: Log
) -> None:
    async def task(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append(turns)

    async def serve(turns: int, turns_apart: int) -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(task, turns)
        queue.options(priority=1).add_task(task, turns_apart)
        waiting = queue.begin_release()
        assert waiting is not None
        await waiting
        assert sorted(log) == sorted((turns, turns_apart))

    for turns in ((1, 20), (20, 1)):
        log.clear()
        asyncio.run(serve(*turns))
