"""Numbers about the applications of a process."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable

import pytest

import bgadapters
from bgadapters import BackgroundTasks, Stats
from bgadapters.adapters import FrameworkHooks, Precondition, Runtime, Settings
from tests.core.ways import Flavour, MakeRuntime, Run, in_threads, reached


def stats_of(runtime: Runtime) -> Stats:
    """The last one that was set up is this test's."""
    snapshot = bgadapters.stats()[-1]
    assert snapshot.capacity == runtime.settings.max_pending
    return snapshot


def totals_of(runtime: Runtime) -> dict[str, int]:
    return {name: count for name, count in stats_of(runtime).totals.items() if count}


def fail() -> None:
    raise KeyError("x")


def test_it_tells_what_waits_and_runs(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_pending=50, max_workers=2)
    idle = Stats(
        pending=0,
        running=0,
        capacity=50,
        workers_busy=0,
        workers=2,
        oldest_wait=0.0,
        totals=dict.fromkeys(
            ("succeeded", "failed", "discarded", "replaced", "abandoned", "sent"), 0
        ),
    )
    assert stats_of(runtime) == idle
    started, may_end = threading.Semaphore(0), threading.Event()

    def task() -> None:
        started.release()
        reached(may_end)

    for _ in range(3):
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(task)
        queue.add_task(int)
        queue.release()
    not_complete = BackgroundTasks(runtime=runtime)
    not_complete.add_task(int)
    assert started.acquire(timeout=10)
    assert started.acquire(timeout=10)
    time.sleep(0.02)
    seen = stats_of(runtime)
    assert (seen.pending, seen.running, seen.workers_busy) == (4, 2, 2)
    assert 0.019 <= seen.oldest_wait < 10
    may_end.set()
    assert runtime.drain(10) == []
    not_complete.close(KeyError())
    assert stats_of(runtime).totals == {**idle.totals, "succeeded": 6, "discarded": 1}


def test_totals_count_each_task_once(run: Run, flavour: Flavour, make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)

    def grow() -> None:
        queue.add_task(flavour(int))
        queue.add_task(flavour(fail))

    for func in int, fail, grow, int:
        queue.add_task(flavour(func))
    run(queue)
    assert totals_of(runtime) == {"succeeded": 4, "failed": 2}
    discarded = BackgroundTasks(runtime=runtime)
    discarded.add_task(int)
    discarded.options(always=True).add_task(flavour(int))
    discarded.discard(KeyError())
    run(discarded)
    assert totals_of(runtime) == {"succeeded": 5, "failed": 2, "discarded": 1}


def test_a_task_that_is_heard_of_is_counted_once(make_runtime: MakeRuntime, run: Run) -> None:
    runtime = make_runtime(on_event=id)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    queue.add_task(fail)
    run(queue)
    assert totals_of(runtime) == {"succeeded": 1, "failed": 1}


@pytest.mark.parametrize("then", [int, fail])
def test_what_was_abandoned_counts_as_that_alone(
    make_runtime: MakeRuntime, then: Callable[[], object]
) -> None:
    runtime = make_runtime()
    started, may_end, finished = threading.Event(), threading.Event(), threading.Event()

    def hangs() -> None:
        started.set()
        reached(may_end)
        then()

    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    queue.add_task(hangs)
    queue.add_task(int)
    queue.release()
    reached(started)
    assert len(runtime.drain(0)) == 2
    assert queue.batch.on_finished(finished.set)
    may_end.set()
    reached(finished)
    assert totals_of(runtime) == {"succeeded": 1, "abandoned": 2}


def test_what_waits_for_a_later_time_or_a_commit_is_not_pending() -> None:
    condition = Precondition()
    held_tasks: list[Precondition] = []
    hooks = FrameworkHooks(preconditions=lambda _: held_tasks)
    runtime = Runtime(Settings(), hooks)
    later = BackgroundTasks(runtime=runtime)
    later.options(delay=3600).add_task(int)
    later.release()
    held = BackgroundTasks(runtime=runtime)
    held_tasks.append(condition)
    held.add_task(int)
    held.release()
    seen = stats_of(runtime)
    assert (seen.pending, seen.running, seen.oldest_wait) == (0, 0, 0.0)
    condition.resolve(True)
    assert len(runtime.drain(0.2)) == 1
    assert totals_of(runtime) == {"succeeded": 1, "abandoned": 1}


def test_what_was_due_waits_since_then(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(max_workers=1)
    started, may_end = threading.Event(), threading.Event()

    def hangs() -> None:
        started.set()
        reached(may_end)

    first = BackgroundTasks(runtime=runtime)
    first.add_task(hangs)
    first.release()
    reached(started)
    later = BackgroundTasks(runtime=runtime)
    later.options(delay=0.3).add_task(int)
    later.release()
    while not stats_of(runtime).pending:
        time.sleep(0.005)
    assert stats_of(runtime).oldest_wait < 0.3
    may_end.set()


def test_applications_come_in_their_order_and_go(make_runtime: MakeRuntime) -> None:
    one, two = Runtime(Settings(max_pending=1)), Runtime(Settings(max_pending=2))
    assert [snapshot.capacity for snapshot in bgadapters.stats()][-2:] == [1, 2]
    del one
    gc.collect()
    capacities = [snapshot.capacity for snapshot in bgadapters.stats()]
    assert capacities[-1] == 2
    assert 1 not in capacities
    del two


def test_a_snapshot_cannot_be_changed(make_runtime: MakeRuntime) -> None:
    snapshot = stats_of(make_runtime())
    with pytest.raises(AttributeError):
        snapshot.pending = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_forked_child_counts_from_nothing(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    queue.add_task(fail)
    in_threads(queue)
    read, write = os.pipe()
    if not os.fork():  # pragma: no cover  the child's
        os.write(write, repr(totals_of(runtime)).encode())
        os._exit(0)
    os.wait()
    assert os.read(read, 99) == b"{}"
    os.close(read)
    os.close(write)
    assert totals_of(runtime) == {"succeeded": 1, "failed": 1}
