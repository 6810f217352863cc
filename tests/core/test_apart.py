"""A task that leaves the order of its response: released with it, discarded with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bgadapters import BackgroundTasks, QueueClosedError, QueueFullError
from bgadapters.adapters import LiveTasks, Precondition, Runtime
from tests.core.ways import PATIENCE, Flavour, Log, MakeRuntime, Run, reached

SOON = 0.05


async def pause() -> None:
    await asyncio.sleep(0.01)


@pytest.mark.parametrize("own", [True, False], ids=["beside tasks", "alone"])
def test_it_is_released_with_the_others(runtime: Runtime, log: Log, own: bool) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.options(priority=1).add_task(log.append, "apart")
    if own:
        queue.add_task(log.append, "own")
    assert len(queue) == (2 if own else 1)
    assert log == []
    queue.release()
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert sorted(log) == (["apart", "own"] if own else ["apart"])


def test_every_way_to_run_a_queue_runs_it(
    runtime: Runtime, log: Log, flavour: Flavour, run: Run
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(flavour(log.append), "own")
    queue.options(priority=5).add_task(flavour(log.append), "apart")
    run(queue)
    assert runtime.drain(PATIENCE) == []
    assert sorted(log) == ["apart", "own"]


def test_whoever_awaits_a_queue_awaits_those_that_are_for_now(runtime: Runtime, log: Log) -> None:
    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        for priority in (1, -1):
            queue.options(priority=priority).add_task(pause)
            queue.options(priority=priority).add_task(log.append, priority)
        queue.options(delay=1e6, name="later").add_task(log.append, "later")
        await asyncio.wait_for(queue(), PATIENCE)
        assert sorted(log) == [-1, 1]
        assert await runtime.adrain(PATIENCE) == ["later"]

    asyncio.run(main())


@pytest.mark.parametrize("end", ["discard", "close"])
def test_it_is_discarded_with_the_others_in_one_warning(
    make_runtime: MakeRuntime, log: Log, warned: Callable[[], list[str]], end: str
) -> None:
    runtime = make_runtime(on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.options(name="own").add_task(log.append, "own")
    apart = queue.options(priority=3)
    apart.options(name="apart").add_task(log.append, "apart")
    apart.options(always=True).add_task(log.append, "always")
    queue.options(delay=5, name="later").add_task(log.append, "later")
    getattr(queue, end)(KeyError("view"))
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert log == ["always"]
    assert warned() == [
        "3 background task(s) discarded, the response failed with KeyError: 'view': "
        "own, apart, later"
    ]


def test_a_part_of_the_response_that_failed_takes_its_own_alone(
    queue: BackgroundTasks, log: Log
) -> None:
    apart = queue.options(priority=1)
    apart.add_task(log.append, "before")
    since = len(queue)
    apart.add_task(log.append, "after")
    queue.discard(KeyError(), since)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["before"]


@pytest.mark.parametrize("fulfilled", [True, False])
def test_it_waits_for_the_same_precondition(
    make_runtime: MakeRuntime, log: Log, fulfilled: bool, warned: Callable[[], list[str]]
) -> None:
    commit = Precondition()
    runtime = make_runtime()
    runtime.preconditions = lambda _: [commit]
    queue = BackgroundTasks(runtime=runtime)
    queue.options(priority=1).add_task(log.append, "apart")
    queue.release()
    assert queue.batch.is_held
    assert log == []
    commit.resolve(fulfilled)
    assert runtime.drain(PATIENCE) == []
    assert log == (["apart"] if fulfilled else [])
    assert len(warned()) == (not fulfilled)


@pytest.mark.parametrize("how", ["released", "closed"])
def test_a_queue_that_has_ended_takes_none(runtime: Runtime, log: Log, how: str) -> None:
    queue = BackgroundTasks(runtime=runtime)
    if how == "released":
        queue.release()
    else:
        queue.close(KeyError("view"))
    with pytest.raises(QueueClosedError, match=r"cannot add list\.append"):
        queue.options(delay=1).add_task(log.append, 1)
    with pytest.raises(AttributeError, match=r"is called options\(priority=, delay="):
        queue.attach


@pytest.mark.parametrize("own", [True, False], ids=["beside tasks", "alone"])
def test_the_highest_priority_is_released_first(
    make_runtime: MakeRuntime, log: Log, own: bool
) -> None:
    """So that it gets the worker that is free."""
    runtime = make_runtime(max_workers=1)
    queue = BackgroundTasks(runtime=runtime)
    for priority in [-1, 1, 2]:
        queue.options(priority=priority).add_task(log.append, priority)
    if own:
        queue.add_task(log.append, "own")
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert log == ([2, 1, "own", -1] if own else [2, 1, -1])


@pytest.mark.parametrize("option", [{"priority": 5}, {"delay": SOON}], ids=["priority", "delay"])
def test_a_task_may_add_one_to_its_own_queue(
    make_runtime: MakeRuntime, log: Log, option: Any
) -> None:
    """It gets a batch of its own at once, and those behind it do not wait for it."""
    runtime = make_runtime(max_pending=3, on_full="reject", max_workers=2)
    has_run = threading.Event()

    def add() -> None:
        queue.options(**option).add_task(has_run.set)

    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(add)
    queue.add_task(reached, has_run)
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert has_run.is_set()


def test_a_connection_that_lasts_starts_it_at_once(runtime: Runtime) -> None:
    loops: list[Any] = []

    async def main() -> None:
        ran = asyncio.Event()

        async def task() -> None:
            loops.append(asyncio.get_running_loop())
            ran.set()

        tasks = LiveTasks(runtime=runtime)
        tasks.add_task(asyncio.Event().wait)  # a long one
        await asyncio.to_thread(tasks.options(delay=SOON).add_task, task)
        await asyncio.wait_for(ran.wait(), PATIENCE)
        assert loops == [asyncio.get_running_loop()]
        tasks.end()
        carrier: Any = tasks.batch.carrier
        carrier.abandon()

    asyncio.run(main())


def test_what_has_a_priority_counts_from_the_start_where_a_full_one_rejects(
    make_runtime: MakeRuntime, log: Log
) -> None:
    runtime = make_runtime(max_pending=2, on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.options(delay=SOON).add_task(log.append, "later")  # takes no place yet
    queue.options(priority=1).add_task(log.append, "apart")
    queue.add_task(log.append, "own")
    assert runtime.in_flight.in_use == 2
    with pytest.raises(QueueFullError, match="2 tasks wait or run already"):
        queue.options(priority=1).add_task(log.append, "too many")
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert sorted(log) == ["apart", "later", "own"]
    assert runtime.in_flight.in_use == 0


def test_what_is_for_later_needs_no_place_before(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_pending=1)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(delay=SOON).add_task(print, end="")
    queue.wait_for_capacity()
    assert runtime.in_flight.in_use == 0
    queue.add_task(print, end="")
    queue.wait_for_capacity()
    assert runtime.in_flight.in_use == 1
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert runtime.in_flight.in_use == 0


@pytest.mark.parametrize(
    "moment",
    [datetime.now(UTC) + timedelta(seconds=0.2), datetime.min.replace(tzinfo=UTC)],
    ids=["soon", "long ago"],
)
def test_a_time_is_kept(runtime: Runtime, log: Log, moment: datetime) -> None:
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(run_after=moment).add_task(lambda: log.append(datetime.now(UTC)))
    assert runtime.drain(PATIENCE) == []
    assert log[0] >= moment


@pytest.mark.parametrize("naive", [datetime.now() - timedelta(1), datetime.min, None])
def test_a_time_without_a_zone_is_the_local_one_where_the_framework_has_those(
    make_runtime: MakeRuntime, log: Log, naive: datetime | None
) -> None:
    runtime = make_runtime()
    runtime.hooks = runtime.hooks._replace(takes_naive_times=lambda: True)
    soon = naive or datetime.now() + timedelta(seconds=SOON)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(run_after=soon).add_task(log.append, 1)
    assert runtime.drain(PATIENCE) == []
    assert log == [1]
    runtime.hooks = runtime.hooks._replace(takes_naive_times=lambda: False)
    with pytest.raises(TypeError, match="has no time zone"):
        queue.options(run_after=soon)
