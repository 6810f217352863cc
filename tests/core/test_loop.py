"""An event loop may end at any moment: its queues go on without it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

import pytest
from bgadapters.core.waiting import finished, wait_until

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, Settings
from bgadapters.core import host
from bgadapters.core import loop as loops
from tests.core.ways import Log, MakeRuntime, in_threads, reached


def test_cancelling_whoever_waits_cancels_no_task(queue: BackgroundTasks, log: Log) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        queue.add_task(go_on.wait)
        queue.add_task(log.append, "after")
        waiting = asyncio.create_task(queue.arelease())
        also_waiting = asyncio.create_task(queue.arelease())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go_on.set()
        await also_waiting

    asyncio.run(main())
    assert log == ["after"]


@pytest.mark.parametrize("on_full", ["run", "reject"])
def test_without_a_loop_of_asyncio_it_is_said_what_is_missing(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]], on_full: str
) -> None:
    """As under trio; what cannot run is named, and nobody waits for it afterwards."""
    queue = BackgroundTasks(runtime=make_runtime(on_full=on_full))
    queue.add_task(print, "never")
    waiting = queue.arelease()
    with pytest.raises(RuntimeError, match=r"run by asyncio, .*; trio is not supported"):
        waiting.send(None)
    assert warned() == [
        "1 background task(s) discarded, no event loop of asyncio is running: builtins.print"
    ]
    assert not queue.is_running


def test_a_loop_that_ends_waits_for_the_running_task(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    """``asyncio.run`` cancels everything once; then it waits for what it has cancelled."""

    async def task() -> None:
        await asyncio.sleep(0.01)
        log.append(asyncio.get_running_loop())

    async def main() -> asyncio.AbstractEventLoop:
        queue.add_task(task)
        queue.add_task(task)
        queue.add_task(log.append, "sync")
        queue.release()
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    home = asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == [home, home, "sync"]
    assert errors() == []


def test_a_loop_that_is_about_to_be_closed_gets_no_more_to_do(
    make_runtime: MakeRuntime, log: Log
) -> None:
    """A queue that a worker hands back to it goes on elsewhere."""
    loop, made = asyncio.new_event_loop(), make_runtime()
    held, other = BackgroundTasks(runtime=made), BackgroundTasks(runtime=made)
    go_on = asyncio.Event()

    async def task() -> None:
        log.append(asyncio.get_running_loop() is loop)

    async def begin() -> None:
        held.add_task(go_on.wait)
        held.add_task(log.append, "held")
        held.release()
        await asyncio.sleep(0)

    async def hand_back() -> None:
        other.add_task(task)
        other.release()
        await asyncio.sleep(0)
        go_on.set()

    loop.run_until_complete(begin())
    driver = held._driver
    assert driver is not None
    driver.cancel()
    loop.run_until_complete(hand_back())
    loop.run_until_complete(asyncio.wait([driver]))
    loop.close()
    assert made.drain() == []
    assert sorted(map(str, log)) == ["False", "held"]


def test_a_loop_that_ends_waits_no_longer_than_the_drain_timeout(
    log: Log, warned: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=Runtime(Settings(drain_timeout=0.01)))

    async def main() -> None:
        queue.options(name="endless").add_task(asyncio.Event().wait)
        queue.options(name="waiting").add_task(log.append, "never")
        queue.release()
        await asyncio.sleep(0)
        assert queue._driver is not None
        drivers.append(queue._driver)

    drivers: list[asyncio.Task[None]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for _ in range(2):  # a second time changes nothing
        assert drivers[0].cancel() is False
    loop.run_until_complete(asyncio.wait(drivers))
    loop.close()
    assert queue.runtime.drain() == []
    assert log == []
    assert warned() == [
        "2 background task(s) abandoned, not finished within the drain timeout of 0.01 s: "
        "endless, waiting"
    ]


def test_what_ended_in_time_is_not_given_up(queue: BackgroundTasks, log: Log) -> None:
    async def main() -> None:
        queue.add_task(asyncio.sleep, 0)
        queue.add_task(log.append, "sync")
        queue.release()
        driver = queue._driver
        assert driver is not None
        await asyncio.wait([driver])
        driver._give_up()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == ["sync"]


def test_a_driver_that_is_cancelled_costs_the_running_task_alone(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    async def main() -> None:
        queue.options(name="running").add_task(asyncio.Event().wait)
        queue.add_task(log.append, "sync")
        queue.add_task(asyncio.sleep, 0)
        queue.add_task(log.append, "last")
        queue.release()
        await asyncio.sleep(0)
        assert queue._driver is not None
        queue._driver.cancel()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == ["sync", "last"]
    assert errors() == ["Background task running failed: CancelledError"]


def test_a_driver_that_is_cancelled_in_its_first_step_costs_that_task_alone(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    async def cancels() -> None:
        driver = asyncio.current_task()
        assert driver is not None
        driver.cancel()
        raise asyncio.CancelledError

    async def task() -> None:
        log.append("async")

    async def main() -> None:
        queue.options(name="cancels").add_task(cancels)
        queue.add_task(log.append, "sync")
        queue.add_task(task)
        await queue.arelease()

    asyncio.run(main())
    assert log == ["sync", "async"]
    assert errors() == ["Background task cancels failed: CancelledError"]


def test_a_driver_that_has_ended_before_it_can_be_waited_for(
    queue: BackgroundTasks, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was cancelled in its first step, where drivers begin at once."""

    async def task() -> None:
        log.append("async")

    async def main() -> None:
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        queue.add_task(log.append, "sync")
        queue.add_task(task)
        monkeypatch.setattr(loops, "_Driver", lambda *_: cancelled)
        queue._begin()
        queue.runtime._enter(queue)
        loops.drive(queue)
        monkeypatch.undo()
        assert await queue.runtime.adrain() == []

    asyncio.run(main())
    assert log == ["sync", "async"]


def test_tasks_of_a_queue_that_is_awaited_begin_at_once_where_python_can(
    queue: BackgroundTasks, log: Log
) -> None:
    """asyncio's tasks can begin where they are made since Python 3.12."""

    async def task() -> None:
        log.append("task")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(log.append, "turn of the loop")
        queue.add_task(task)
        await queue.arelease()
        await asyncio.sleep(0)

    asyncio.run(main())
    first = "task" if sys.version_info >= (3, 12) else "turn of the loop"
    assert sorted(log) == ["task", "turn of the loop"]
    assert log[0] == first


def test_a_generator_based_coroutine_function_is_awaited(queue: BackgroundTasks, log: Log) -> None:
    @coroutine
    def task() -> Generator[Any, Any, None]:
        log.append("begun")
        yield from asyncio.sleep(0).__await__()
        log.append("ended")

    async def main() -> None:
        queue.add_task(task)
        await queue.arelease()

    asyncio.run(main())
    assert log == ["begun", "ended"]


def test_a_loop_that_ends_before_the_first_step_costs_nothing(
    queue: BackgroundTasks, log: Log
) -> None:
    async def task() -> None:
        log.append("async")

    async def main() -> None:
        queue.add_task(task)
        queue.add_task(log.append, "sync")
        queue.release()

    asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == ["async", "sync"]


def test_a_loop_that_ends_while_an_awaitable_is_on_its_way_to_it(
    queue: BackgroundTasks, log: Log
) -> None:
    """What a sync task returned is awaited all the same, and before the tasks after it."""

    async def task() -> None:
        log.append("awaited")

    def drive_then_cancel() -> None:
        loops.drive(queue)
        assert queue._driver is not None
        queue._driver.cancel()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        handed_over = asyncio.Event()

        def call_soon_threadsafe(*_: Any) -> None:
            schedule(drive_then_cancel)
            schedule(handed_over.set)

        schedule = loop.call_soon_threadsafe
        queue.add_task(lambda: task())
        queue.add_task(log.append, "after")
        queue._begin()
        queue.runtime.spawn(queue)
        loop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[method-assign,assignment]
        await asyncio.wait_for(handed_over.wait(), 10)
        loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]

    asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == ["awaited", "after"]


def test_a_waiter_that_comes_at_the_last_moment_does_not_wait(queue: BackgroundTasks) -> None:
    in_threads(queue)
    asyncio.run(finished(queue))


def test_those_who_wait_on_a_loop_look_together(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer wakes them all, a second one comes only after it, and none when nobody waits."""
    monkeypatch.setattr("bgadapters.core.waiting.LOOK", 0.001)
    timers: list[float] = []
    looks: list[int] = []  # how many timers there had been at each

    def is_ending() -> bool:
        looks.append(len(timers))
        return False

    monkeypatch.setattr(host, "is_ending", is_ending)
    runtime = make_runtime()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, *call: Any) -> asyncio.TimerHandle:
            timers.append(delay)
            return call_later(delay, *call)

        loop.call_later = noted  # type: ignore[method-assign,assignment]
        go_on = threading.Event()
        queues = [BackgroundTasks(runtime=runtime) for _ in range(3)]
        for queue in queues:
            queue.add_task(reached, go_on)
        everyone = asyncio.gather(*(queue.arelease() for queue in queues))
        while len(looks) < 6:
            await asyncio.sleep(0)
        go_on.set()
        await everyone
        timers.clear()
        await asyncio.sleep(0.02)
        assert timers == [0.02]

    asyncio.run(main())
    assert looks[:6] == [1, 2, 2, 2, 3, 3]


def test_a_loop_that_was_closed_while_a_worker_had_the_queue(
    queue: BackgroundTasks, log: Log
) -> None:
    """The async tasks that follow run on a loop of bgadapters' own."""
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        reached(go_on)

    async def task() -> None:
        log.append(asyncio.get_running_loop())

    async def main() -> asyncio.AbstractEventLoop:
        queue.add_task(hold)
        queue.add_task(task)
        waiting = asyncio.create_task(queue.arelease())
        await asyncio.to_thread(reached, started)
        waiting.cancel()
        return asyncio.get_running_loop()

    closed = asyncio.run(main())
    go_on.set()
    assert queue.runtime.drain() == []
    assert len(log) == 1
    assert log[0] is not closed


def test_a_loop_thrown_away_with_its_tasks(queue: BackgroundTasks, log: Log) -> None:
    """Nobody cancelled them: their coroutines are closed when they are collected."""
    loop = asyncio.new_event_loop()

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        except GeneratorExit:
            log.append("closed")
            raise

    async def main() -> None:
        queue.add_task(task)
        queue.add_task(log.append, "rest")
        queue.release()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    driver = queue._driver
    assert driver is not None
    coroutine: Any = driver.get_coro()
    with pytest.raises(GeneratorExit):
        # what the collector does to the coroutine of a task that nobody will ever step again
        coroutine.throw(GeneratorExit)
    assert queue.runtime.drain() == []
    assert log == ["closed", "rest"]
    asyncio.Task.cancel(driver)
    loop.run_until_complete(asyncio.wait([driver]))
    loop.close()


def test_a_task_may_raise_generator_exit_by_itself(queue: BackgroundTasks, log: Log) -> None:
    async def task() -> None:
        await asyncio.sleep(0)
        raise GeneratorExit

    queue.add_task(task)
    queue.add_task(log.append, "after")
    in_threads(queue)
    assert log == ["after"]


def test_any_awaitable_is_awaited(queue: BackgroundTasks, log: Log) -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            yield from asyncio.sleep(0).__await__()
            log.append("awaited")

    async def gives_one() -> Awaitable:
        return Awaitable()

    async def gives_one_later() -> Awaitable:
        await asyncio.sleep(0)
        return Awaitable()

    queue.add_task(gives_one)
    queue.add_task(gives_one_later)
    queue.add_task(Awaitable)
    in_threads(queue)
    assert log == ["awaited"] * 3


def test_a_waiter_whose_loop_is_closed_is_forgotten(queue: BackgroundTasks, log: Log) -> None:
    go_on = threading.Event()
    queue.add_task(reached, go_on)
    queue.add_task(log.append, "after")

    async def main() -> None:
        waiting = asyncio.create_task(queue.arelease())
        room = asyncio.create_task(wait_until(queue.runtime.in_flight.is_idle))
        await asyncio.sleep(0)
        waiting.cancel()
        room.cancel()

    asyncio.run(main())
    go_on.set()
    assert queue.runtime.drain() == []
    assert log == ["after"]


def test_cancelling_a_driver_whose_loop_is_closed_does_nothing() -> None:
    async def main() -> asyncio.Task[None]:
        driver = asyncio.create_task(asyncio.sleep(0))
        await driver
        return driver

    loops.cancel(asyncio.run(main()))


def test_the_own_loop_outlives_what_a_task_has_started(
    make_runtime: MakeRuntime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio lets SystemExit out of a loop; the async tasks that follow still run on it."""
    made = make_runtime()
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        raise SystemExit

    async def start() -> None:
        kept.append(asyncio.create_task(leave()))

    async def note() -> None:
        log.append("ran")

    for task in (start, note):
        queue = BackgroundTasks(runtime=made)
        queue.add_task(asyncio.sleep, 0.01)
        queue.add_task(task)
        queue.add_task(asyncio.sleep, 0.01)
        queue.release()
        assert made.drain() == []
    assert log == ["ran"]
    assert "that a background task has started has failed" in caplog.text
    with pytest.raises(SystemExit):
        kept[0].result()
