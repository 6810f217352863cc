"""``concurrency``: at most so many at a time, first come first served, and no worker held."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Batch, Bridge, FrameworkHooks, Runtime, Task, parse_settings
from bgadapters.core.control.limits import Limits
from bgadapters.testing import run_tasks
from tests.core import ways
from tests.core.ways import PATIENCE, Log, MakeRuntime, lines_of, reached

LIMIT: dict[str, int] = {"slow": 1, "wide": 3}


class Gauge:
    """How many run at one time."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        try:
            yield
        finally:
            with self.lock:
                self.now -= 1

    def task(self) -> None:
        with self.running():
            time.sleep(0.002)

    async def atask(self) -> None:
        with self.running():
            await asyncio.sleep(0.002)


class Held:
    """A task that runs until it is let go."""

    def __init__(self) -> None:
        self.started, self.go_on = threading.Event(), threading.Event()

    def task(self) -> None:
        self.started.set()
        reached(self.go_on)

    async def atask(self) -> None:
        self.started.set()
        while not self.go_on.is_set():
            await asyncio.sleep(0.001)


def release(runtime: Runtime, func: Callable[..., Any], *args: Any, **options: Any) -> None:
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(**options).add_task(func, *args)


def places(runtime: Runtime) -> int:
    """The places that are taken, and the batches that wait for one."""
    limits = runtime.scheduler.turns._limits
    return len(limits._name_of) + sum(map(len, limits._lines.values()))


@pytest.fixture
def runtime(make_runtime: MakeRuntime) -> Iterator[Runtime]:
    runtime = make_runtime(concurrency=LIMIT)
    yield runtime
    assert runtime.drain(PATIENCE) == []
    assert places(runtime) == 0


@pytest.mark.parametrize("kind", ["sync", "async", "mixed"])
@pytest.mark.parametrize("name", ["slow", "wide"])
def test_at_most_so_many_run_at_a_time(runtime: Runtime, kind: str, name: str) -> None:
    gauge = Gauge()
    kinds: dict[str, list[Callable[..., Any]]] = {
        "sync": [gauge.task],
        "async": [gauge.atask],
        "mixed": [gauge.task, gauge.atask],
    }
    for number in range(20):
        release(runtime, kinds[kind][number % len(kinds[kind])], concurrency=name)
    assert runtime.drain(PATIENCE) == []
    assert gauge.peak == LIMIT[name]


def test_on_one_loop_too(runtime: Runtime) -> None:
    gauge = Gauge()

    async def main() -> list[str]:
        for _ in range(20):
            release(runtime, gauge.atask, concurrency="wide")
        return await runtime.adrain(PATIENCE)

    assert asyncio.run(main()) == []
    assert gauge.peak == 3


def test_first_come_first_served(runtime: Runtime, log: Log) -> None:
    held = Held()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    for number in range(5):
        release(runtime, log.append, number, concurrency="slow")
        wait_until_parked(runtime, number + 1)
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == [0, 1, 2, 3, 4]


def test_the_higher_priority_goes_first(runtime: Runtime, log: Log) -> None:
    held = Held()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    for number, priority in enumerate([0, 5, -5, 5]):
        release(runtime, log.append, priority, concurrency="slow", priority=priority)
        wait_until_parked(runtime, number + 1)
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == [5, 5, 0, -5]


def wait_until_parked(runtime: Runtime, count: int) -> None:
    """Wait for what has no event of its own: that a worker has put a batch aside."""
    lines: dict[str, Any] = runtime.scheduler.turns._limits._lines
    end = time.monotonic() + PATIENCE
    while sum(map(len, lines.values())) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.001)


def test_what_waits_holds_no_worker_and_no_other_response(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(concurrency=LIMIT, max_workers=2)
    held, done = Held(), threading.Event()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    for _ in range(5):
        release(runtime, time.sleep, 0, concurrency="slow")
    release(runtime, done.set)
    reached(done)
    held.go_on.set()


def test_what_waits_holds_no_other_async_task(runtime: Runtime) -> None:
    async def main() -> list[str]:
        held, done = Held(), asyncio.Event()

        async def mark() -> None:
            done.set()

        release(runtime, held.atask, concurrency="slow")
        for _ in range(5):
            release(runtime, asyncio.sleep, 0, concurrency="slow")
        release(runtime, mark)
        await asyncio.wait_for(done.wait(), PATIENCE)
        held.go_on.set()
        return await runtime.adrain(PATIENCE)

    assert asyncio.run(main()) == []


def test_the_later_tasks_of_a_response_wait(runtime: Runtime, log: Log) -> None:
    held = Held()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.add_task(log.append, "before")
        queue.options(concurrency="slow").add_task(log.append, "limited")
        queue.add_task(ways.as_coroutine_function(log.append), "after")
        queue.add_task(log.append, "last")
    wait_until_parked(runtime, 1)
    assert log == ["before"]
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == ["before", "limited", "after", "last"]


def test_a_call_that_waits_for_its_tasks_waits_for_the_place(runtime: Runtime, log: Log) -> None:
    async def main() -> None:
        held = Held()
        release(runtime, held.atask, concurrency="slow")
        queue = BackgroundTasks(runtime=runtime)
        queue.options(concurrency="slow").add_task(log.append, "limited")
        queue.add_task(log.append, "after")
        call = asyncio.ensure_future(queue())
        await asyncio.sleep(0.01)
        assert not call.done()
        held.go_on.set()
        await asyncio.wait_for(call, PATIENCE)

    asyncio.run(main())
    assert log == ["limited", "after"]


@pytest.mark.parametrize("first", ["sync", "async"])
def test_sync_and_async_tasks_share_the_limit(runtime: Runtime, first: str, log: Log) -> None:
    held = Held()
    release(runtime, held.task if first == "sync" else held.atask, concurrency="slow")
    reached(held.started)
    other = ways.as_coroutine_function(log.append) if first == "sync" else log.append
    release(runtime, other, "other", concurrency="slow")
    wait_until_parked(runtime, 1)
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == ["other"]


def returns_awaitable(log: Log) -> Any:
    async def rest() -> None:
        await asyncio.sleep(0.001)
        log.append("rest")

    log.append("call")
    return rest()


def test_a_place_is_kept_until_what_a_task_returns_was_awaited(runtime: Runtime, log: Log) -> None:
    for _ in range(3):
        release(runtime, partial(returns_awaitable, log), concurrency="slow")
    assert runtime.drain(PATIENCE) == []
    assert log == ["call", "rest"] * 3


class Ends:
    """Ways in which a task ends."""

    @staticmethod
    def raises() -> None:
        raise ValueError

    @staticmethod
    def exits() -> None:
        raise SystemExit(3)

    @staticmethod
    async def araises() -> None:
        raise ValueError

    @staticmethod
    async def aexits() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    @staticmethod
    async def is_cancelled() -> None:
        running = asyncio.current_task()
        if running is not None:  # pragma: no branch
            running.cancel()
        await asyncio.sleep(PATIENCE)


ENDS = [Ends.raises, Ends.exits, Ends.araises, Ends.aexits, Ends.is_cancelled]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_however_a_task_ends_it_gives_its_place_back(
    runtime: Runtime, end: Callable[[], Any], run: ways.Run, log: Log
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.options(concurrency="slow").add_task(end)
    queue.options(concurrency="slow").add_task(log.append, "same")
    queue.options(concurrency="wide").add_task(log.append, "other")
    queue.options(concurrency="slow").add_task(end)
    queue.add_task(log.append, "none")
    run(queue)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(concurrency="slow").add_task(log.append, "next")
    run(queue)
    assert log == ["same", "other", "none", "next"]
    assert places(runtime) == 0


class Broken:
    """A framework's scope that cannot be entered."""

    def __enter__(self) -> None:
        raise OSError

    def __exit__(self, *_: object) -> None: ...


def test_a_scope_that_cannot_be_entered_costs_no_place(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(scope=Broken, concurrency=LIMIT)
    for _ in range(2):
        release(runtime, print, concurrency="slow")
    assert runtime.drain(PATIENCE) == []
    assert places(runtime) == 0


def test_in_the_thread_that_releases(runtime: Runtime, log: Log) -> None:
    """As where no thread can be had: what waits runs in the thread that gives the place back."""

    def outer() -> None:
        with BackgroundTasks(runtime=runtime) as inner:
            inner.options(concurrency="slow").add_task(log.append, "inner")
            inner.add_task(ways.as_coroutine_function(log.append), "after")
        log.append("outer")

    queue = BackgroundTasks(runtime=runtime)
    queue.options(concurrency="slow").add_task(outer)
    ways.in_the_releasing_thread(queue)
    assert runtime.drain(PATIENCE) == []
    assert log == ["outer", "inner", "after"]


def test_an_unknown_name_is_refused_at_the_call(runtime: Runtime) -> None:
    with BackgroundTasks(runtime=runtime) as queue:
        with pytest.raises(TypeError) as caught:
            queue.options(concurrency="fast").add_task(print)
        assert len(queue) == 0
    assert str(caught.value).startswith(
        "options(concurrency='fast'): the setting 'concurrency' names 'slow', 'wide'. Add it there"
    )
    with (
        BackgroundTasks(runtime=Runtime()) as queue,
        pytest.raises(TypeError, match="names no limit"),
    ):
        queue.options(concurrency="slow").add_task(print)


def test_a_drain_that_gives_up_names_what_waits_once(
    make_runtime: MakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    kinds: Log = []
    runtime = make_runtime(
        concurrency=LIMIT, on_event=lambda event: kinds.append((event.kind, event.task.name))
    )
    held = Held()
    release(runtime, held.task, concurrency="slow", name="holds")
    reached(held.started)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(concurrency="slow", name="waits").add_task(print)
        queue.options(name="waits behind").add_task(print)
    wait_until_parked(runtime, 1)
    with caplog.at_level(logging.WARNING):
        assert sorted(runtime.drain(0)) == ["holds", "waits", "waits behind"]
    assert runtime.in_flight.in_use == 1  # that which still runs
    assert places(runtime) == 1
    held.go_on.set()
    ends = [name for kind, name in kinds if kind == "abandoned"]
    assert sorted(ends) == ["holds", "waits", "waits behind"]
    release(runtime, kinds.append, "next", concurrency="slow", name="next")
    assert runtime.drain(PATIENCE) == []
    assert "next" in kinds


def test_an_abandoned_async_task_gives_its_place_back(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(concurrency=LIMIT)

    async def main() -> None:
        release(runtime, asyncio.sleep, PATIENCE, concurrency="slow", name="hangs")
        await asyncio.sleep(0)
        assert await runtime.adrain(0.01) == ["hangs"]
        release(runtime, log.append, "next", concurrency="slow")
        assert await runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    assert (log, places(runtime)) == (["next"], 0)


def test_a_loop_that_was_closed_gives_the_places_of_its_tasks_back(
    runtime: Runtime, log: Log
) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        release(runtime, asyncio.sleep, PATIENCE, concurrency="slow")
        queue = BackgroundTasks(runtime=runtime)
        queue.options(concurrency="slow").add_task(ways.as_coroutine_function(log.append), "next")
        queue.release()
        await asyncio.sleep(0.01)

    loop.run_until_complete(begin())
    assert places(runtime) == 2
    loop.close()
    assert runtime.drain(PATIENCE) == []
    assert log == ["next"]


def test_a_forked_child_starts_with_all_places(runtime: Runtime) -> None:
    script = """
    import os, threading
    from bgadapters import BackgroundTasks, drain
    from bgadapters.adapters import Runtime, Settings

    runtime = Runtime(Settings(concurrency={"slow": 1}))
    started, go_on = threading.Event(), threading.Event()

    def hold():
        started.set()
        go_on.wait()

    def add(func, *args):
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(concurrency="slow").add_task(func, *args)

    add(hold)
    started.wait()
    add(print, "parent")
    child = os.fork()
    if not child:
        add(print, "child")
        assert drain(10) == []
        raise SystemExit
    os.waitpid(child, 0)
    go_on.set()
    """
    flags = ("-W", "ignore:This process:DeprecationWarning")  # Python 3.12: it has threads
    assert lines_of(script, flags=flags) == ["child", "parent"]


def test_each_application_has_its_own(make_runtime: MakeRuntime) -> None:
    one, other = make_runtime(concurrency=LIMIT), make_runtime(concurrency=LIMIT)
    held, done = Held(), threading.Event()
    release(one, held.task, concurrency="slow")
    reached(held.started)
    release(other, done.set, concurrency="slow")
    reached(done)
    held.go_on.set()


def test_a_task_of_the_queue_s_own_waits_as_well(runtime: Runtime, log: Log) -> None:
    held = Held()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    with BackgroundTasks(runtime=runtime) as queue:

        def adds() -> None:
            queue.options(concurrency="slow").add_task(log.append, "own")
            log.append("adds")

        queue.add_task(adds)
    wait_until_parked(runtime, 1)
    assert log == ["adds"]
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == ["adds", "own"]


def test_many_threads_and_both_kinds(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(concurrency={"a": 1, "b": 3})
    gauges = {"a": Gauge(), "b": Gauge()}

    def add(number: int) -> None:
        for turn in range(25):
            with BackgroundTasks(runtime=runtime) as queue:
                for name in "ab" if turn % 2 else "ba":
                    gauge = gauges[name]
                    func = gauge.atask if (number + turn) % 2 else gauge.task
                    queue.options(concurrency=name).add_task(func)
                    queue.add_task(log.append, 1)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runtime.drain(PATIENCE) == []
    assert (gauges["a"].peak, gauges["b"].peak, len(log)) == (1, 3, 200)
    assert places(runtime) == 0


def test_the_setting_is_a_copy() -> None:
    given = {"a": 1}
    settings = parse_settings({"concurrency": given})
    given["a"] = 2
    assert settings.concurrency == {"a": 1}


def test_a_batch_is_not_parked_for_a_task_that_was_just_taken_from_it() -> None:
    limits, log = Limits({"slow": 1}), list[Any]()
    first, second = Batch(), Batch()
    task = Task(print, (), Context())
    first.add(task)
    second.add(task)

    def take(batch: Batch) -> bool:
        return limits.take(batch, task, "slow", partial(log.append, batch), partial(log.append, 0))

    assert take(first) is True
    second.withdraw(task)  # as a drain does, or who replaces it
    assert take(second) is True
    second.add(task)
    assert take(second) is False
    (parked,) = limits._lines["slow"]
    for go_on in limits.give_back(first):
        go_on()
    assert log == [second]
    parked.abandon()  # too late: it has a place by now
    parked.rescue()
    assert log == [second]
    assert limits.give_back(second, "slow") == ()
    assert limits.give_back(second, "other") == ()
    assert limits._name_of == {}


def test_while_a_test_runs_what_waits_goes_on_where_it_would_have_run(
    make_runtime: MakeRuntime, log: Log
) -> None:
    runtime = make_runtime(concurrency=LIMIT)

    def note(what: str) -> None:
        log.append((what, threading.current_thread()))

    def outer() -> None:
        with BackgroundTasks(runtime=runtime) as inner:
            inner.options(concurrency="slow").add_task(note, "inner")
        with BackgroundTasks(runtime=runtime) as inner:
            inner.options(concurrency="slow").add_task(ways.as_coroutine_function(note), "async")
        note("outer")

    with run_tasks(), BackgroundTasks(runtime=runtime) as queue:
        queue.options(concurrency="slow").add_task(outer)
        queue.add_task(note, "last")
    here = threading.current_thread()
    assert log == [(what, here) for what in ("outer", "inner", "async", "last")]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_on_the_loop_of_a_test_too(log: Log, kind: str) -> None:
    def to_async(func: Callable[..., Any]) -> Callable[..., Any]:
        async def awaited(*args: Any) -> Any:
            return func(*args)

        return awaited

    def to_sync(func: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: asyncio.run(func(*args))

    runtime = Runtime(
        parse_settings({"concurrency": LIMIT}), FrameworkHooks(bridge=Bridge(to_async, to_sync))
    )

    async def main() -> None:
        may_end = asyncio.Event()

        async def holds() -> None:
            await may_end.wait()
            log.append("holds")

        first, second = (BackgroundTasks(runtime=runtime) for _ in range(2))
        first.options(concurrency="slow").add_task(holds)
        note = log.append if kind == "sync" else ways.as_coroutine_function(log.append)
        second.options(concurrency="slow").add_task(note, "waits")
        calls = asyncio.gather(first(), second())
        await asyncio.sleep(0.01)
        assert places(runtime) == 2
        may_end.set()
        await asyncio.wait_for(calls, PATIENCE)

    with run_tasks():
        asyncio.run(main())
    assert log == ["holds", "waits"]
    assert places(runtime) == 0


@pytest.mark.parametrize("kind", ["sync", "async", "mixed"])
@pytest.mark.parametrize("where", ["script", "loop"])
def test_a_process_that_ends_waits_for_what_waits_for_a_place(kind: str, where: str) -> None:
    script = """
    import asyncio, sys, time
    from bgadapters import BackgroundTasks
    from bgadapters.adapters import Runtime, Settings

    runtime = Runtime(Settings(concurrency={"slow": 1}))
    kind, where = sys.argv[1:]

    def task(number):
        time.sleep(0.02)
        print(number)

    async def atask(number):
        await asyncio.sleep(0.02)
        print(number)

    def add():
        for number in range(4):
            with BackgroundTasks(runtime=runtime) as queue:
                func = {"sync": task, "async": atask}.get(kind) or (task, atask)[number % 2]
                queue.options(concurrency="slow").add_task(func, number)

    async def main():
        add()

    asyncio.run(main()) if where == "loop" else add()
    """
    assert sorted(lines_of(script, kind, where)) == ["0", "1", "2", "3"]
