"""An event loop may end at any moment: its batches go on without it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, Settings
from bgadapters.core import host
from bgadapters.core.drivers.origin_loop import rescue_closed
from bgadapters.core.drivers.waiting import finished, wait_until
from tests.core.ways import PATIENCE, Log, MakeRuntime, in_threads, reached
from tests.our_log import OurLog


def cancel_all(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    """Cancel the asyncio tasks of a loop that has stopped, as ``asyncio.run`` and servers do."""
    left = asyncio.all_tasks(loop)
    for each in left:
        assert each.cancel() is False  # each waits for the drain timeout first
    return left


def end(loop: asyncio.AbstractEventLoop) -> None:
    """End a loop that has stopped, as ``asyncio.run`` does."""
    left = cancel_all(loop)
    assert left
    loop.run_until_complete(asyncio.wait(left))
    loop.close()


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
    assert not queue.batch.is_running


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

    origin = asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == [origin, origin, "sync"]
    assert errors() == []


def leave_behind(
    loop: asyncio.AbstractEventLoop, queue: BackgroundTasks, log: Log
) -> threading.Event:
    """Have a worker hand a batch back to a loop that stands still; it is there when that is set."""
    plain, handed = threading.Event(), threading.Event()

    async def coro() -> None:
        log.append(asyncio.get_running_loop())

    async def main() -> None:
        queue.add_task(reached, plain)
        queue.add_task(coro)
        queue.add_task(log.append, "last")
        queue.release()

    loop.run_until_complete(main())
    threadsafe = loop.call_soon_threadsafe

    def hand_over(*args: Any) -> Any:
        handle = threadsafe(*args)
        handed.set()
        return handle

    loop.call_soon_threadsafe = hand_over  # type: ignore[method-assign,assignment]
    plain.set()
    return handed


def test_what_was_handed_to_a_loop_that_is_closed_goes_on_without_it_and_without_a_drain(
    queue: BackgroundTasks, log: Log
) -> None:
    loop = asyncio.new_event_loop()
    reached(leave_behind(loop, queue, log))
    done = threading.Event()
    assert queue.batch.on_finished(done.set)
    loop.close()
    reached(done)
    assert log[0] is not loop
    assert log[1:] == ["last"]


def test_what_runs_on_a_loop_that_is_closed_goes_on_when_another_one_is_in_use(
    queue: BackgroundTasks, runtime: Runtime, log: Log
) -> None:
    """Nobody tells of the end of a loop on which a task was suspended."""
    loop, done = asyncio.new_event_loop(), threading.Event()

    async def suspended() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        queue.add_task(suspended)
        queue.add_task(log.append, "last")
        queue.release()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    assert queue.batch.on_finished(done.set)
    other = BackgroundTasks(runtime=runtime)
    other.add_task(asyncio.sleep, 0)
    other.release()
    reached(done)
    assert log == ["last"]


def test_a_loop_that_has_driven_a_whole_batch_is_seen_to_be_closed_too(
    queue: BackgroundTasks, runtime: Runtime
) -> None:
    loop, done, scheduler = asyncio.new_event_loop(), threading.Event(), runtime.scheduler

    async def suspended(*_: object) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        queue.add_task(int)
        queue.batch.release(int)
        scheduler.enter(queue.batch)
        scheduler.loops.drive(queue.batch, suspended)
        await asyncio.sleep(0)

    async def another() -> None:
        other = BackgroundTasks(runtime=runtime)
        other.add_task(asyncio.sleep, 0)
        await other()

    loop.run_until_complete(main())
    loop.close()
    assert queue.batch.on_finished(done.set)
    asyncio.run(another())
    reached(done)


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
    left = cancel_all(loop)
    loop.run_until_complete(hand_back())
    loop.run_until_complete(asyncio.wait(left))
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

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    cancel_all(loop)
    end(loop)  # to cancel them a second time changes nothing
    assert queue.runtime.drain() == []
    assert log == []
    assert warned() == [
        "2 background task(s) abandoned, not finished within the drain timeout of 0.01 s: "
        "endless, waiting"
    ]


def test_what_ended_in_time_is_not_given_up(
    make_runtime: MakeRuntime, log: Log, warned: Callable[[], list[str]]
) -> None:
    """Its batch goes on in a worker when the time is over that the loop had."""
    runtime = make_runtime(drain_timeout=0.2)
    queue = BackgroundTasks(runtime=runtime)
    loop, may_end, go_on = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def begin() -> None:
        queue.add_task(may_end.wait)
        queue.add_task(reached, go_on)
        queue.add_task(log.append, "sync")
        queue.release()
        await asyncio.sleep(0)

    async def in_time(left: set[asyncio.Task[Any]]) -> None:
        may_end.set()
        await asyncio.wait(left)
        await asyncio.sleep(runtime.drain_timeout)  # a later timer than that of the loop's end

    loop.run_until_complete(begin())
    loop.run_until_complete(in_time(cancel_all(loop)))
    loop.close()
    go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == ["sync"]
    assert warned() == []


def test_cancelling_everything_on_a_loop_that_runs_costs_the_running_task_alone(
    queue: BackgroundTasks, log: Log, our_log: OurLog
) -> None:
    """Those after it stay on the loop that they belong to."""
    started = asyncio.Event()

    async def running() -> None:
        started.set()
        await asyncio.Event().wait()

    async def task() -> None:
        log.append(asyncio.get_running_loop())

    async def main() -> asyncio.AbstractEventLoop:
        queue.options(name="running").add_task(running)
        queue.add_task(log.append, "sync")
        queue.add_task(task)
        queue.add_task(log.append, "last")
        queue.release()
        await started.wait()
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        await queue.arelease()
        return asyncio.get_running_loop()

    origin = asyncio.run(main())
    assert log == ["sync", origin, "last"]
    # Of our own log: the tasks of a loop that an earlier test has closed may be collected now.
    assert our_log.messages == ["Background task running failed: CancelledError"]


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_task_that_is_alone_may_be_cancelled(
    queue: BackgroundTasks, our_log: OurLog, has_begun: bool
) -> None:
    """Nothing awaits its asyncio task until then, which may not have taken its first step."""

    async def main() -> None:
        queue.options(name="alone").add_task(asyncio.Event().wait)
        queue.release()
        if has_begun:
            await asyncio.sleep(0)
        (each,) = asyncio.all_tasks() - {asyncio.current_task()}
        each.cancel()
        each.cancel()
        await queue.arelease()

    asyncio.run(main())
    assert our_log.messages == ["Background task alone failed: CancelledError"]
    assert queue.runtime.drain() == []


def test_what_a_task_adds_on_a_loop_that_is_about_to_be_closed_runs_elsewhere(
    queue: BackgroundTasks, log: Log
) -> None:
    loop, go_on = asyncio.new_event_loop(), asyncio.Event()

    async def task() -> None:
        log.append(asyncio.get_running_loop() is loop)

    async def adds() -> None:
        await go_on.wait()
        queue.add_task(task)

    async def begin() -> None:
        queue.add_task(adds)
        queue.release()
        await asyncio.sleep(0)

    loop.run_until_complete(begin())
    left = cancel_all(loop)
    go_on.set()
    loop.run_until_complete(asyncio.wait(left))
    loop.close()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == [False]


def test_a_whole_batch_is_not_driven_on_a_loop_that_is_about_to_be_closed(
    queue: BackgroundTasks, log: Log
) -> None:
    loop, go_on = asyncio.new_event_loop(), asyncio.Event()
    other, scheduler = BackgroundTasks(runtime=queue.runtime), queue.runtime.scheduler

    async def begin() -> None:
        queue.add_task(go_on.wait)
        queue.release()
        await asyncio.sleep(0)

    async def drive() -> None:
        other.add_task(log.append, "elsewhere")
        scheduler.enter(other.batch)
        other.batch.release(int)
        scheduler.loops.drive(other.batch, mock.Mock())
        go_on.set()

    loop.run_until_complete(begin())
    left = cancel_all(loop)
    loop.run_until_complete(drive())
    loop.run_until_complete(asyncio.wait(left))
    loop.close()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["elsewhere"]


def test_a_worker_keeps_what_a_closed_loop_has_handed_to_it(
    queue: BackgroundTasks, log: Log
) -> None:
    loop, started, go_on = asyncio.new_event_loop(), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        reached(go_on)
        log.append("held")

    async def begin() -> None:
        queue.add_task(asyncio.sleep, 0)
        queue.add_task(hold)
        queue.release()
        while not started.is_set():
            await asyncio.sleep(0)

    loop.run_until_complete(begin())
    loop.close()
    rescue_closed(queue.runtime.in_flight)
    go_on.set()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["held"]


def test_what_waits_on_a_loop_stays_there_when_another_loop_is_used(
    queue: BackgroundTasks, log: Log
) -> None:
    loop, go_on = asyncio.new_event_loop(), asyncio.Event()

    async def waits() -> None:
        await go_on.wait()
        log.append(asyncio.get_running_loop() is loop)

    async def begin() -> None:
        queue.add_task(waits)
        queue.release()
        await asyncio.sleep(0)

    async def elsewhere() -> None:
        async with BackgroundTasks(runtime=queue.runtime) as tasks:
            tasks.add_task(asyncio.sleep, 0)

    async def go() -> None:
        go_on.set()
        await queue.arelease()

    loop.run_until_complete(begin())
    asyncio.run(elsewhere())
    loop.run_until_complete(go())
    loop.close()
    assert log == [True]


def test_loops_that_take_turns_have_nobody_look_at_all_batches(
    queue: BackgroundTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a thousand batches wait each response would cost as much as all of them."""
    in_flight = queue.runtime.in_flight
    looks = mock.Mock(side_effect=in_flight.live)
    monkeypatch.setattr(in_flight, "live", looks)
    loops = [asyncio.new_event_loop() for _ in range(2)]

    async def begin() -> None:
        tasks = BackgroundTasks(runtime=queue.runtime)
        tasks.add_task(asyncio.sleep, 0)
        await tasks.arelease()

    for _ in range(3):
        for loop in loops:
            loop.run_until_complete(begin())
    assert looks.call_count == 0
    loops[0].close()
    for _ in range(2):
        loops[1].run_until_complete(begin())
    asyncio.run(begin())  # another loop than before, and one was closed
    assert looks.call_count == 1
    loops[1].close()
    queue.runtime.drain(PATIENCE)


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
    loop = asyncio.new_event_loop()
    schedule = loop.call_soon_threadsafe

    async def task() -> None:
        await asyncio.sleep(0)
        log.append("awaited")

    def hand_over_and_stop(*call: Any) -> None:
        schedule(lambda: (call[0](*call[1:]), loop.stop()))  # in one turn of the loop

    queue.add_task(lambda: task())
    queue.add_task(log.append, "after")
    loop.call_soon(queue.release)
    loop.call_soon_threadsafe = hand_over_and_stop  # type: ignore[method-assign,assignment]
    loop.run_forever()
    loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]
    end(loop)
    assert queue.runtime.drain() == []
    assert log == ["awaited", "after"]


def test_a_waiter_that_comes_at_the_last_moment_does_not_wait(queue: BackgroundTasks) -> None:
    in_threads(queue)
    asyncio.run(finished(queue.batch, queue.runtime.adrain))


def test_those_who_wait_on_a_loop_ask_together(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer wakes them all, a second one comes only after it, and none when nobody waits."""
    monkeypatch.setattr("bgadapters.core.drivers.waiting.POLL_INTERVAL", 0.001)
    timers: list[float] = []
    polls: list[int] = []  # how many timers there had been at each

    def is_ending() -> bool:
        polls.append(len(timers))
        return False

    monkeypatch.setattr(host, "is_ending", is_ending)
    runtime = make_runtime()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, *call: Any, **options: Any) -> asyncio.TimerHandle:
            timers.append(delay)
            return call_later(delay, *call, **options)

        loop.call_later = noted  # type: ignore[method-assign,assignment]
        go_on = threading.Event()
        queues = [BackgroundTasks(runtime=runtime) for _ in range(3)]
        for queue in queues:
            queue.add_task(reached, go_on)
        everyone = asyncio.gather(*(queue.arelease() for queue in queues))
        while len(polls) < 6:
            await asyncio.sleep(0)
        go_on.set()
        await everyone
        timers.clear()
        await asyncio.sleep(0.02)
        assert timers == [0.02]

    asyncio.run(main())
    assert polls[:6] == [1, 2, 2, 2, 3, 3]


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


def test_a_loop_thrown_away_with_its_tasks(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    """Nobody cancelled them: a drain closes their coroutines, and the rest goes on."""
    loop = asyncio.new_event_loop()

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        except GeneratorExit:
            log.append("closed")
            raise

    async def main() -> None:
        queue.options(name="thrown away").add_task(task)
        queue.add_task(log.append, "rest")
        queue.release()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    left = asyncio.all_tasks(loop)
    loop.close()
    assert queue.runtime.drain() == []
    assert log == ["closed", "rest"]
    assert errors() == ["Background task thrown away failed: GeneratorExit"]
    for each in left:  # or asyncio would say that they were pending when they are collected
        each._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_waiter_whose_loop_is_closed_is_forgotten(queue: BackgroundTasks, log: Log) -> None:
    go_on = threading.Event()
    queue.add_task(reached, go_on)
    queue.add_task(log.append, "after")

    async def main() -> None:
        waiting = asyncio.create_task(queue.arelease())
        idle = asyncio.create_task(wait_until(queue.runtime.in_flight.is_idle))
        await asyncio.sleep(0)
        waiting.cancel()
        idle.cancel()

    asyncio.run(main())
    go_on.set()
    assert queue.runtime.drain() == []
    assert log == ["after"]


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("is_awaitable", [False, True])
def test_what_a_closed_loop_has_not_begun_runs_elsewhere(
    make_runtime: MakeRuntime, log: Log, turns: int, is_awaitable: bool
) -> None:
    """Whichever of its steps was the last one."""
    runtime = make_runtime()

    async def task() -> None:
        log.append("ran")

    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task((lambda: task()) if is_awaitable else task)
        queue.add_task(log.append, "next")
        queue.release()
        for _ in range(turns):
            await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert runtime.drain(PATIENCE) == []
    assert log == ["ran", "next"]


def test_what_a_task_has_returned_stays_to_be_awaited(runtime: Runtime, log: Log) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "ran")
    batch = queue.batch
    batch.release(lambda: None)
    batch.running, batch.awaited = batch.waiting.popleft(), asyncio.Future(loop=mock.Mock())
    batch.put_back_untouched()
    assert batch.running is not None
    assert not batch.waiting


def test_two_who_find_a_closed_loop_take_its_batch_once(runtime: Runtime, log: Log) -> None:
    """A drain and another loop, for two; here the second comes while the first is at work."""
    again = threading.Event()

    async def suspended() -> None:
        log.append("suspended")
        if log != ["suspended"]:
            again.set()
            return
        try:
            await asyncio.Event().wait()
        finally:  # the first of them ends it
            second = threading.Thread(target=rescue_closed, args=(runtime.in_flight,))
            second.start()
            second.join(PATIENCE)
            assert not again.wait(0.1)
            log.append("ended")

    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(suspended)
        queue.add_task(log.append, "following")
        queue.release()
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))
    left = asyncio.all_tasks(loop)
    loop.close()
    rescue_closed(runtime.in_flight)
    assert runtime.drain(PATIENCE) == []
    assert log == ["suspended", "ended", "following"]
    for each in left:  # or asyncio would say that they were pending when they are collected
        each._log_destroy_pending = False  # type: ignore[attr-defined]
