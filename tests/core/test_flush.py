"""What was added so far starts now, though the response goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

import bgadapters
from bgadapters import BackgroundTasks, NoResponseError, QueueClosedError, QueueFullError
from bgadapters.adapters import LiveTasks, Precondition, Runtime, release_response
from tests.core.ways import PATIENCE, Log, MakeRuntime, reached


def done(runtime: Runtime) -> None:
    assert runtime.drain(PATIENCE) == []


def held(runtime: Runtime) -> Callable[..., Precondition]:
    """Have a queue's next task wait for a precondition."""

    def hold(queue: BackgroundTasks, func: Any, *args: Any) -> Precondition:
        precondition = Precondition()
        runtime.preconditions = lambda _: [precondition]
        queue.add_task(func, *args)
        runtime.preconditions = None
        return precondition

    return hold


def test_what_was_added_starts_and_the_queue_stays_open(
    queue: BackgroundTasks, log: Log, flavour: Any
) -> None:
    ran = threading.Event()
    queue.add_task(flavour(log.append), 1)
    queue.add_task(flavour(ran.set))
    queue.flush()
    reached(ran)
    assert (log, queue.is_open, len(queue)) == ([1], True, 0)
    queue.add_task(flavour(log.append), 2)
    queue.release()
    done(queue.runtime)
    assert log == [1, 2]


def test_the_order_is_kept_over_many_flushes(
    queue: BackgroundTasks, log: Log, flavour: Any
) -> None:
    may_begin = threading.Event()
    queue.add_task(reached, may_begin)
    for number in range(20):
        queue.add_task(flavour(log.append) if number % 3 else log.append, number)
        queue.flush()
    queue.add_task(log.append, "the last")
    queue.release()
    assert log == []
    may_begin.set()
    done(queue.runtime)
    assert log == [*range(20), "the last"]


def test_a_later_failure_discards_the_later_ones_alone(
    queue: BackgroundTasks, log: Log, warned: Callable[[], list[str]]
) -> None:
    may_begin = threading.Event()
    queue.add_task(reached, may_begin)
    queue.add_task(log.append, "flushed")
    queue.flush()
    queue.options(name="later").add_task(log.append, "later")
    queue.options(always=True).add_task(log.append, "always")
    queue.close(ValueError("broken off"))
    may_begin.set()
    done(queue.runtime)
    assert log == ["flushed", "always"]
    assert warned() == [
        "1 background task(s) discarded, the response failed with ValueError: broken off: later"
    ]


def test_a_part_that_fails_is_counted_from_where_it_began(queue: BackgroundTasks, log: Log) -> None:
    queue.add_task(log.append, "before")
    since = queue.position
    queue.add_task(log.append, "of the part, flushed")
    queue.flush()
    queue.add_task(log.append, "of the part")
    queue.discard(ValueError(), since)
    assert len(queue) == 0
    queue.release()
    done(queue.runtime)
    assert log == ["before", "of the part, flushed"]


def test_what_waits_for_a_commit_still_does_and_so_do_those_behind(
    runtime: Runtime, queue: BackgroundTasks, log: Log
) -> None:
    hold = held(runtime)
    commit = hold(queue, log.append, "in the transaction")
    queue.flush()
    queue.add_task(log.append, "behind")
    queue.flush()
    queue.release()
    assert (log, runtime.has_work()) == ([], True)
    commit.resolve(True)
    done(runtime)
    assert log == ["in the transaction", "behind"]


def test_a_rollback_discards_what_was_flushed_in_its_transaction(
    runtime: Runtime, queue: BackgroundTasks, log: Log
) -> None:
    rollback = held(runtime)(queue, log.append, "in the transaction")
    queue.flush()
    queue.add_task(log.append, "behind")
    queue.release()
    rollback.resolve(False)
    done(runtime)
    assert log == ["behind"]


def test_a_drain_in_the_thread_of_the_transaction_does_not_wait_in_vain(
    runtime: Runtime, queue: BackgroundTasks, log: Log
) -> None:
    class OfThisThread(Precondition):
        def is_up_to_this_thread(self) -> bool:
            return True

    commit = OfThisThread()
    runtime.preconditions = lambda _: [commit]
    queue.add_task(log.append, "in the transaction")
    queue.flush()
    queue.options(on_commit=False).add_task(log.append, "behind")
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert log == []
    commit.resolve(True)
    done(runtime)
    assert log == ["in the transaction", "behind"]


def test_tasks_that_leave_the_order_are_flushed_with_it(queue: BackgroundTasks, log: Log) -> None:
    ran = threading.Event()
    queue.options(priority=1).add_task(log.append, "apart")
    queue.flush()
    queue.options(delay=0.01).add_task(ran.set)
    queue.add_task(log.append, "own")
    queue.flush()
    reached(ran)
    assert queue.is_open
    queue.release()
    done(queue.runtime)
    assert sorted(log) == ["apart", "own"]


def test_where_nothing_waits_nothing_happens(queue: BackgroundTasks) -> None:
    queue.flush()
    assert not queue.runtime.has_work()
    queue.release()
    queue.flush()
    assert not queue.is_open


@pytest.mark.parametrize("on_full", ["run", "reject"])
def test_what_was_flushed_is_bounded(make_runtime: MakeRuntime, log: Log, on_full: str) -> None:
    runtime = make_runtime(max_pending=3, on_full=on_full)
    queue = BackgroundTasks(runtime=runtime)
    may_begin, began = threading.Event(), threading.Event()

    def first() -> None:
        began.set()
        reached(may_begin)

    queue.add_task(first)
    queue.flush()
    reached(began)
    with pytest.raises(QueueFullError):
        for number in range(5):
            queue.add_task(log.append, number)
            queue.flush()
    may_begin.set()
    queue.release()
    done(runtime)
    assert log == list(range(len(log)))
    assert 2 <= len(log) <= 4


def test_a_flushed_task_adds_to_its_queue_as_any_other(
    runtime: Runtime, queue: BackgroundTasks, log: Log
) -> None:
    is_over, may_go_on = threading.Event(), threading.Event()

    def adds() -> None:
        queue.add_task(log.append, "while the response goes on")
        may_go_on.set()
        reached(is_over)
        queue.add_task(log.append, "when it is over")

    queue.add_task(adds)
    queue.flush()
    reached(may_go_on)
    queue.release()
    with pytest.raises(QueueClosedError):
        queue.add_task(log.append, "by somebody else")
    is_over.set()
    done(runtime)
    assert sorted(log) == ["when it is over", "while the response goes on"]


def test_any_thread_may_flush(queue: BackgroundTasks, log: Log) -> None:
    def work(name: int) -> None:
        for number in range(50):
            queue.add_task(log.append, (name, number))
            queue.flush()

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.release()
    done(queue.runtime)
    for name in range(4):
        assert [number for who, number in log if who == name] == list(range(50))


def test_on_a_loop_the_call_that_made_the_response_waits_for_all(
    runtime: Runtime, log: Log
) -> None:
    async def main() -> None:
        may_end = asyncio.Event()
        loops = []

        async def first() -> None:
            loops.append(asyncio.get_running_loop())
            await may_end.wait()
            log.append("flushed")

        async def last() -> None:
            loops.append(asyncio.get_running_loop())
            log.append("last")

        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(first)
        queue.flush()
        queue.add_task(log.append, "sync")
        queue.add_task(last)
        waiting = asyncio.create_task(queue.arelease())
        await asyncio.sleep(0)
        assert not waiting.done()
        may_end.set()
        await waiting
        assert log == ["flushed", "sync", "last"]
        assert set(loops) == {asyncio.get_running_loop()}

    asyncio.run(main())


def test_it_waits_for_what_was_flushed_where_nothing_comes_after(
    runtime: Runtime, log: Log
) -> None:
    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(asyncio.sleep, 1.1)  # longer than a poll
        queue.add_task(log.append, "flushed")
        queue.flush()
        await queue.arelease()
        assert log == ["flushed"]

    asyncio.run(main())


def test_a_response_that_is_held_waits_for_what_was_flushed(
    make_runtime: MakeRuntime, log: Log
) -> None:
    queue = BackgroundTasks(runtime=make_runtime(hold_response=True))
    may_begin = threading.Event()
    queue.add_task(reached, may_begin)
    queue.add_task(log.append, "flushed")
    queue.flush()
    queue.add_task(log.append, "later")
    threading.Timer(0.05, may_begin.set).start()
    release_response(queue)
    assert log == ["flushed", "later"]


def test_an_abandoned_flush_lets_nothing_go_on(
    make_runtime: MakeRuntime, log: Log, warned: Callable[[], list[str]]
) -> None:
    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)
    may_end, began = threading.Event(), threading.Event()

    def stuck() -> None:
        began.set()
        reached(may_end)

    queue.options(name="stuck").add_task(stuck)
    queue.options(name="flushed").add_task(log.append, "flushed")
    queue.flush()
    reached(began)
    queue.options(name="later").add_task(log.append, "later")
    queue.release()
    assert sorted(runtime.drain(0)) == ["flushed", "later", "stuck"]
    ended = threading.Event()
    assert not runtime.in_flight.try_reserve(2000, ended.set)
    may_end.set()
    reached(ended)
    assert log == []


def test_tasks_of_a_connection_start_anyhow(runtime: Runtime, log: Log) -> None:
    live = LiveTasks(runtime=runtime)
    live.add_task(log.append, 1)
    live.flush()
    live.end()
    done(runtime)
    assert log == [1]


def test_in_what_a_view_calls(runtime: Runtime, log: Log) -> None:
    with pytest.raises(NoResponseError):
        bgadapters.flush()
    ran = threading.Event()
    with BackgroundTasks(runtime=runtime):
        bgadapters.add_task(ran.set)
        bgadapters.flush()
        reached(ran)


def test_what_was_added_while_an_exception_was_handled_can_be_flushed(
    queue: BackgroundTasks, log: Log
) -> None:
    ran = threading.Event()
    try:
        raise ValueError
    except ValueError as exc:
        queue.add_task(ran.set)
        queue.add_task(log.append, "of the handler")
        queue.flush()
        reached(ran)
        queue.add_task(log.append, "of the handler too")
        queue.discard(exc)
    queue.release()
    done(queue.runtime)
    assert log == ["of the handler", "of the handler too"]
