"""Tasks that hold the interpreter's lock run one at a time; nobody else waits behind them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Runtime
from bgadapters.core.control.holders import function_of
from bgadapters.core.drivers.lock_watch import LockWatch, Look, Worker
from bgadapters.core.drivers.threads import ThreadDriver
from bgadapters.core.model.batch import Batch
from bgadapters.testing import run_tasks
from tests.core.test_holders import task_of
from tests.core.test_limits import Held
from tests.core.test_lock_watch import Steps, needs_clocks
from tests.core.ways import PATIENCE, Log, MakeRuntime, reached


class Application:
    """A runtime whose workers are looked at by a test alone."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        scheduler = runtime.scheduler
        self.turns = scheduler.turns
        self.steps = Steps()
        scheduler.lock_watch = self.watch = LockWatch(self.turns.judge, self.steps)
        scheduler.threads = ThreadDriver(scheduler.execution, scheduler.pool, self.watch)

    def look(
        self, func: Callable[..., object], burned: float, batch: Batch | None = None
    ) -> tuple[bool, bool]:
        """Have the application be told of a look at one task."""
        worker = Worker(batch or Batch(), task_of(func), True, burned, False, 0.0 if burned else 9)
        self.watch.checks, has_line = self.turns.judge(Look(0.01, bool(burned), [worker]))
        return self.watch.checks, has_line

    def blame(self, func: Callable[..., object]) -> None:
        while not self.is_blamed(func):
            self.look(func, 0.01)

    def clear(self, func: Callable[..., object]) -> None:
        while self.is_blamed(func):
            self.look(func, 0.0)

    def is_blamed(self, func: Callable[..., object]) -> bool:
        return self.turns._holders.is_one(id(function_of(task_of(func))))

    def release(self, *funcs: Callable[..., object], **options: Any) -> BackgroundTasks:
        queue = BackgroundTasks(runtime=self.runtime)
        for func in funcs:
            (queue.options(**options) if options else queue).add_task(func)
        queue.release()
        return queue

    def wait_until_parked(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while sum(map(len, self.turns._lane._lines.values())) != count:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def app(make_runtime: MakeRuntime) -> Iterator[Application]:
    yield (made := Application(make_runtime(max_workers=4, concurrency={"slow": 1})))
    made.steps.end()


def drained(app: Application) -> None:
    assert app.runtime.drain(PATIENCE) == []
    assert not app.turns._lane._members
    assert not app.turns._lane.has_line


def test_one_runs_at_a_time_and_nobody_else_waits(app: Application, log: Log) -> None:
    """Nor is a worker kept for those that wait."""
    held = Held()
    app.blame(held.task)
    for _ in range(6):
        app.release(held.task)
    reached(held.started)
    app.wait_until_parked(5)
    done = threading.Event()
    app.release(*[partial(log.append, number) for number in range(5)], done.set)
    reached(done)
    assert log == [0, 1, 2, 3, 4]
    app.wait_until_parked(5)
    held.go_on.set()
    drained(app)


def test_later_tasks_of_a_response_wait_for_one_that_waits(app: Application, log: Log) -> None:
    held = Held()
    app.blame(held.task)
    app.release(held.task)
    reached(held.started)
    app.release(partial(log.append, "before"), held.task, partial(log.append, "after"))
    app.wait_until_parked(1)
    assert log == ["before"]
    held.go_on.set()
    drained(app)
    assert log == ["before", "after"]


def test_a_second_one_in_a_batch_that_began_before_it_was_known_waits(
    app: Application, log: Log
) -> None:
    first, second = Held(), Held()
    queue = app.release(first.task, second.task)
    reached(first.started)
    app.blame(second.task)
    app.look(second.task, 0.01, queue.batch)
    app.release(second.task)
    reached(second.started)
    first.go_on.set()
    app.wait_until_parked(1)
    second.go_on.set()
    drained(app)


def test_one_that_has_waited_for_its_turn_takes_the_next_free_worker(
    make_runtime: MakeRuntime, log: Log
) -> None:
    """Nobody would have the lock while it waits once more."""
    app = Application(make_runtime(max_workers=2))
    first, other = Held(), Held()

    def sleeps() -> None:
        other.task()

    def plain() -> None:
        log.append("plain")

    app.blame(first.task)
    app.blame(log.append)
    app.release(first.task)
    reached(first.started)
    app.release(partial(log.append, "second"))
    app.wait_until_parked(1)
    app.release(sleeps)
    reached(other.started)
    for _ in range(3):
        app.release(plain)
    first.go_on.set()
    deadline = time.monotonic() + PATIENCE
    while len(log) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    other.go_on.set()
    drained(app)
    assert sorted(log) == ["plain"] * 3 + ["second"]
    assert log[0] == "second"
    app.steps.end()


def raises(log: Log) -> None:
    log.append("raised")
    raise KeyError


def returns_awaitable(log: Log) -> Any:
    async def rest() -> None:
        await asyncio.sleep(0.001)
        log.append("rest")

    log.append("call")
    return rest()


@pytest.mark.parametrize("func", [raises, returns_awaitable])
def test_however_one_ends_the_next_goes_on(
    app: Application, func: Callable[..., Any], log: Log
) -> None:
    app.blame(func)
    for _ in range(3):
        app.release(partial(func, log))
    drained(app)
    assert log == (["raised"] * 3 if func is raises else ["call", "rest"] * 3)


def test_one_that_waits_is_told_of_once_whether_or_not_a_drain_gives_up(
    make_runtime: MakeRuntime,
) -> None:
    events: list[TaskEvent] = []
    app = Application(make_runtime(on_event=events.append))
    held = Held()
    app.blame(held.task)
    for _ in range(3):
        app.release(held.task)
    reached(held.started)
    app.wait_until_parked(2)
    assert len(app.runtime.drain(0.01)) == 3
    held.go_on.set()
    app.release(held.task)
    drained(app)
    kinds = Counter(event.kind for event in events)
    assert (kinds["abandoned"], kinds["succeeded"]) == (3, 1)
    app.steps.end()


def test_one_that_has_the_place_of_a_limit_keeps_it_while_it_waits(
    app: Application, log: Log
) -> None:
    held, limited = Held(), partial(log.append, "limited")
    app.blame(held.task)
    app.blame(log.append)
    app.release(held.task)
    reached(held.started)
    for _ in range(3):
        app.release(limited, concurrency="slow")
    app.wait_until_parked(1)  # the others wait for the limit
    assert app.turns._limits._name_of
    held.go_on.set()
    drained(app)
    assert log == ["limited"] * 3
    assert not app.turns._limits._name_of


def test_one_with_a_key_that_is_replaced_while_it_waits_goes(app: Application, log: Log) -> None:
    held = Held()
    app.blame(held.task)
    app.blame(log.append)
    app.release(held.task)
    reached(held.started)
    app.release(partial(log.append, "first"), key="same")
    app.wait_until_parked(1)
    app.release(partial(log.append, "second"), key="same")
    app.wait_until_parked(1)
    held.go_on.set()
    drained(app)
    assert log == ["second"]


@needs_clocks
def test_one_that_waits_for_another_one_goes_on_in_the_end(app: Application) -> None:
    """As a task does that asks its own application for the result of one."""
    inner, outer_started = Held(), threading.Event()
    inner.go_on.set()

    def outer() -> None:
        outer_started.set()
        reached(inner.started)

    app.blame(outer)
    app.blame(inner.task)
    app.release(outer)
    reached(outer_started)
    app.release(inner.task)
    app.wait_until_parked(1)
    for _ in range(4):
        app.turns.judge(Look(0.01, False, []))
    drained(app)


@needs_clocks
@pytest.mark.parametrize(("others", "width"), [(0.008, 1), (0.0, 2)])
def test_one_that_others_keep_from_the_lock_does_not_leave_it_free(
    app: Application, others: float, width: int
) -> None:
    """Else a second one would run beside it when requests come thick and fast."""
    held = Held()
    app.blame(held.task)
    first = app.release(held.task)
    reached(held.started)
    app.release(held.task)
    app.wait_until_parked(1)
    worker = Worker(first.batch, task_of(held.task), True, 0.002, False, 0.0)
    for _ in range(3):
        app.turns.judge(Look(0.01, bool(others), [worker], others))
    assert app.turns._lane.width == width
    held.go_on.set()
    drained(app)


def test_the_watch_goes_on_while_one_of_them_runs(app: Application) -> None:
    held = Held()
    app.blame(held.task)
    assert app.look(held.task, 0.01) == (True, True)
    assert app.look(print, 0.01) == (True, False)


def test_those_of_a_function_that_is_cleared_go_on_together(app: Application) -> None:
    everyone = threading.Barrier(3)

    def meet() -> None:
        everyone.wait(PATIENCE)

    app.blame(meet)
    for _ in range(3):
        app.release(meet)
    app.wait_until_parked(2)
    app.clear(meet)
    assert not app.watch.checks
    drained(app)


def test_a_driver_with_means_of_its_own_and_async_tasks_are_not_asked(
    app: Application, log: Log
) -> None:
    async def awaits() -> None:
        log.append("async")

    app.blame(log.append)
    app.blame(awaits)
    held = Held()
    app.blame(held.task)
    app.release(held.task)
    reached(held.started)
    app.release(awaits)
    queue = BackgroundTasks(runtime=app.runtime)
    queue.options(concurrency="slow").add_task(log.append, "sync")
    with run_tasks():
        queue.release()
        assert "sync" in log
        held.go_on.set()
    drained(app)
    assert sorted(log) == ["async", "sync"]


def test_a_forked_child_knows_nothing_of_it(app: Application) -> None:
    app.blame(print)
    app.runtime.scheduler.reset_after_fork()
    assert not app.is_blamed(print)
    assert not app.watch.checks


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@needs_clocks
@pytest.mark.slow
def test_who_holds_the_lock_is_found_out_on_a_real_pool(make_runtime: MakeRuntime) -> None:
    """Not those that sleep, and not those that compute without the lock."""
    runtime = make_runtime(max_workers=6)
    data = os.urandom(1 << 19)

    def packs() -> None:
        zlib.compress(data)

    def sleeps() -> None:
        time.sleep(0.03)

    kinds: list[Callable[[], object]] = [partial(compute, 0.06), packs, sleeps]

    holders = runtime.scheduler.turns._holders
    key = id(function_of(task_of(compute)))
    deadline = time.monotonic() + 4 * PATIENCE  # on a machine that has much else to do

    def run_some_of_each() -> None:
        for func in kinds:
            queue = BackgroundTasks(runtime=runtime)
            queue.add_task(func)
            queue.release()
        time.sleep(0.03)
        while runtime.in_flight.in_use > 12:
            time.sleep(0.01)
        assert time.monotonic() < deadline

    while not holders.is_one(key):
        run_some_of_each()
    for _ in range(25):  # what was seen of it is forgotten when it is blamed
        run_some_of_each()
    assert runtime.drain(60) == []
    assert holders.is_one(key)
    shares = [holders.share(function_of(task_of(func))) for func in (sleeps, packs, compute)]
    assert shares[0] < 0.3
    assert shares[2] > max(shares[:2])
