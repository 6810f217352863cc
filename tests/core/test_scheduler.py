"""Where a batch runs, and who waits for capacity."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import loop_runs_here
from bgadapters.core import host
from bgadapters.core.app import scheduler
from bgadapters.core.drivers import in_flight
from bgadapters.core.model.context import on_behalf_of
from tests.core.ways import PATIENCE, Log, MakeRuntime, in_threads, lines_of, reached


def full(make_runtime: MakeRuntime) -> tuple[BackgroundTasks, BackgroundTasks, threading.Event]:
    """A queue that takes all the capacity, one that waits, and what lets the first finish."""
    made = make_runtime(max_pending=1, max_workers=1)
    go_on = threading.Event()
    first, second = BackgroundTasks(runtime=made), BackgroundTasks(runtime=made)
    first.add_task(reached, go_on)
    first.release()
    return first, second, go_on


def test_a_thread_waits_for_capacity(make_runtime: MakeRuntime, log: Log) -> None:
    _, second, go_on = full(make_runtime)
    second.add_task(log.append, "second")

    def release() -> None:
        second.wait_for_capacity()
        log.append("capacity")
        second.release()

    waiting = threading.Thread(target=release)
    waiting.start()
    assert log == []
    go_on.set()
    waiting.join(PATIENCE)
    assert second.runtime.drain() == []
    assert log == ["capacity", "second"]


def test_a_loop_waits_for_capacity_and_goes_on_meanwhile(
    make_runtime: MakeRuntime, log: Log
) -> None:
    _, second, go_on = full(make_runtime)
    second.add_task(log.append, "second")

    async def main() -> None:
        waiting = asyncio.create_task(second.await_capacity())
        await asyncio.sleep(0)
        log.append("meanwhile")
        go_on.set()
        await asyncio.wait_for(waiting, PATIENCE)
        await second.arelease()

    asyncio.run(main())
    assert log == ["meanwhile", "second"]


@pytest.mark.parametrize("way", ["before the response is sent", "at its release"])
def test_a_thread_is_not_kept_for_ever(
    way: str,
    make_runtime: MakeRuntime,
    log: Log,
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What runs may itself wait for the response. One warning says so."""
    monkeypatch.setattr(in_flight, "_PATIENCE", 0.01)
    _, second, go_on = full(make_runtime)
    third = BackgroundTasks(runtime=second.runtime)

    def serve() -> None:
        for queue in (second, third):
            queue.options(name="it").add_task(log.append, "ran")
            if way == "before the response is sent":
                queue.wait_for_capacity()
            else:
                queue.release()

    serving = threading.Thread(target=serve)
    serving.start()
    serving.join(PATIENCE)
    assert not serving.is_alive()
    assert log == []
    assert second.runtime.in_flight.in_use == 3
    go_on.set()
    second.release()
    third.release()
    assert second.runtime.drain() == []
    assert log == ["ran", "ran"]
    (warning,) = warned()
    assert "max_pending is 1, and none has finished while a response was kept" in warning
    assert warning.endswith("What runs: tests.core.ways.reached")


def test_neither_is_an_event_loop(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flight, "_PATIENCE", 0.01)
    _, second, go_on = full(make_runtime)
    second.add_task(print, end="")

    async def main() -> None:
        await second.runtime.admission.await_capacity_for_one()
        await second.await_capacity()
        second.release()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    go_on.set()
    assert second.runtime.drain() == []
    assert len(warned()) == 1


def test_an_event_loop_that_waits_for_one_more_task_goes_on_when_there_is_room(
    make_runtime: MakeRuntime,
) -> None:
    first, second, go_on = full(make_runtime)

    async def main() -> None:
        waiting = asyncio.create_task(second.runtime.admission.await_capacity_for_one())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(waiting, PATIENCE)

    asyncio.run(main())
    assert first.runtime.drain() == []
    asyncio.run(second.runtime.admission.await_capacity_for_one())  # there is
    assert first.runtime.in_flight.in_use == 0


@pytest.mark.parametrize("whose", ["another thread's", "what a signal handler interrupts"])
def test_where_the_inline_loop_is_in_use_a_task_has_one_of_its_own(
    whose: str, make_runtime: MakeRuntime, log: Log
) -> None:
    made = make_runtime()
    inline, queue = made.scheduler.inline, BackgroundTasks(runtime=made)
    has_turn, go_on = threading.Event(), threading.Event()

    async def task() -> None:
        log.append(asyncio.get_running_loop())

    def hold() -> None:
        with inline._turn:
            has_turn.set()
            reached(go_on)

    def run() -> None:
        queue.batch.release(queue.release)
        made.in_flight.enter(queue.batch)
        inline.run(queue.batch)

    queue.add_task(task)
    if whose == "another thread's":
        holder = threading.Thread(target=hold)
        holder.start()
        reached(has_turn)
        with on_behalf_of(BackgroundTasks(runtime=made).batch):  # which that thread may wait for
            run()
        go_on.set()
        holder.join()
    else:
        inline._is_in_use = True
        run()
        inline._is_in_use = False
    (loop,) = log
    assert loop.is_closed()
    assert inline._loop is None


def test_the_main_thread_is_not_kept_longer_than_one_task_takes(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server watches it, and kills a process in which it is not heard of."""
    monkeypatch.setattr(in_flight, "_LONGEST_FOR_ONE", 0.01)
    _, second, go_on = full(make_runtime)
    second.add_task(print, end="")
    second.release()
    assert second.batch.is_running
    assert warned() == []
    go_on.set()
    assert second.runtime.drain() == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_task_takes_capacity_that_is_not_there(is_async: bool, make_runtime: MakeRuntime) -> None:
    """It would wait for what it holds itself."""
    made = make_runtime(max_pending=1)
    inner, outer = BackgroundTasks(runtime=made), BackgroundTasks(runtime=made)
    inner.add_task(print, end="")

    async def wait() -> None:
        await inner.await_capacity()
        await made.admission.await_capacity_for_one()
        inner.release()

    def wait_here() -> None:
        inner.wait_for_capacity()
        inner.release()

    outer.add_task(wait if is_async else wait_here)
    outer.release()
    assert made.drain(PATIENCE) == []


def test_where_there_is_capacity_nobody_waits(make_runtime: MakeRuntime) -> None:
    made = make_runtime(max_pending=1)
    queue = BackgroundTasks(runtime=made)
    for _ in range(3):
        queue.add_task(print, end="")
    queue.wait_for_capacity()  # larger than the bound, but alone
    for wait in (queue.await_capacity(), made.admission.await_capacity(queue.batch)):
        asyncio.run(wait)
    assert made.in_flight.in_use == 3
    in_threads(queue)
    assert made.in_flight.in_use == 0


def test_a_loop_that_ended_while_it_waited_is_left_alone(make_runtime: MakeRuntime) -> None:
    first, second, go_on = full(make_runtime)
    second.add_task(print, end="")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.await_capacity(), 0.01)

    asyncio.run(main())
    go_on.set()
    assert first.runtime.drain() == []
    in_threads(second)


def test_a_loop_that_was_closed_while_it_waited_lets_the_next_one_have_the_room(
    make_runtime: MakeRuntime,
) -> None:
    first, second, go_on = full(make_runtime)
    third = BackgroundTasks(runtime=first.runtime)
    for queue in (second, third):
        queue.add_task(print, end="")
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it would say that it was closed too early
    waiting = loop.create_task(second.await_capacity())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def main() -> None:
        also_waiting = asyncio.create_task(third.await_capacity())
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(also_waiting, PATIENCE)
        await third.arelease()

    asyncio.run(main())
    assert not waiting.done()
    waiting.get_coro().close()
    in_threads(second)


@pytest.mark.parametrize("responses", [100, 400])
def test_responses_that_are_held_back_ask_for_room_twice(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, responses: int
) -> None:
    """However many they are: if each task that ends called all of them it would cost ever more."""
    made = make_runtime(max_pending=10)
    asked: Log = []
    try_reserve = made.in_flight.try_reserve

    def count(*args: Any) -> bool:
        asked.append(args)
        return try_reserve(*args)

    monkeypatch.setattr(made.in_flight, "try_reserve", count)

    async def respond() -> None:
        queue = BackgroundTasks(runtime=made)
        queue.add_task(asyncio.sleep, 0)
        await made.admission.await_capacity(queue.batch)
        await queue.arelease()

    async def main() -> None:
        await asyncio.wait_for(asyncio.gather(*(respond() for _ in range(responses))), PATIENCE)

    asyncio.run(main())
    assert len(asked) == 10 + 2 * (responses - 10)


def test_patience_is_lost_by_those_who_have_waited_for_two_looks(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    """One timer for all who wait, which ends when nobody does."""
    monkeypatch.setattr(in_flight, "_PATIENCE", 0.0)  # it is looked at whenever it is asked
    made = make_runtime(max_pending=1)
    made.in_flight.reserve(1)
    looks: list[Callable[[], object]] = []
    queues: list[BackgroundTasks] = []

    async def come() -> asyncio.Task[None]:
        queue = BackgroundTasks(runtime=made)
        queue.add_task(print, end="")
        queues.append(queue)
        waiting = asyncio.create_task(made.admission.await_capacity(queue.batch))
        await asyncio.sleep(0)
        return waiting

    async def look() -> None:
        (it,) = looks
        looks.clear()
        it()
        for _ in range(3):
            await asyncio.sleep(0)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "call_later", lambda _, it, context: looks.append(it)):
            early = [await come(), await come()]
            await look()
            late = await come()
            assert not any(each.done() for each in early)
            await look()
            assert all(each.done() for each in early)
            assert not late.done()
            await look()
            assert late.done()
            assert looks == []

    asyncio.run(main())
    assert len(warned()) == 1
    made.in_flight.free(1)
    for queue in queues:
        in_threads(queue)


def test_without_asyncio_there_is_no_loop() -> None:
    script = """
    import sys
    from bgadapters.core.drivers.loops import loop_runs_here
    print(loop_runs_here(), "asyncio" in sys.modules)
    """
    assert lines_of(script) == ["False False"]


def test_the_loop_of_another_greenlet_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert loop_runs_here()
        monkeypatch.setattr(threading, "get_ident", lambda: 0)  # another greenlet, under gevent
        assert not loop_runs_here()
        monkeypatch.undo()

    assert not loop_runs_here()
    asyncio.run(main())


def test_where_no_thread_can_be_had_tasks_run_at_once_and_one_warning_says_so(
    make_runtime: MakeRuntime,
    log: Log,
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def task() -> None:
        await asyncio.sleep(0)
        log.append("async")

    made = make_runtime()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with BackgroundTasks(runtime=made) as tasks:
            tasks.add_task(lambda: log.append(threading.current_thread()))
            tasks.add_task(task)
            tasks.add_task(log.append, "last")
    assert log == [threading.current_thread(), "async", "last"] * 2
    assert len(warned()) == 1
    assert "No worker thread can be started" in warned()[0]


@pytest.mark.parametrize("how", ["a thread", "no thread", "no threads at all"])
def test_what_a_signal_handler_may_have_interrupted_is_imported_in_another_thread(
    how: str, make_runtime: MakeRuntime, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def task() -> None:
        log.append("ran")

    made = make_runtime(max_workers=1)
    here = threading.current_thread()
    monkeypatch.setattr(
        scheduler, "_may_be_importing", lambda _: threading.current_thread() is here
    )
    if how == "no thread":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    elif how == "no threads at all":
        monkeypatch.setattr(host, "has_threads", lambda: False)
    with BackgroundTasks(runtime=made) as tasks:
        tasks.add_task(task)
    assert made.drain(PATIENCE) == []
    assert log == ["ran"]


def test_a_drain_that_can_start_no_thread_says_nothing_of_requests(
    make_runtime: MakeRuntime,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
) -> None:
    """As at the end of a process, where newer Pythons start none: no request waits any more."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(host, "start_thread", refuse)
    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "ran")
    with runtime.scheduler.later.draining(PATIENCE):
        queue.release()
    assert log == ["ran"]
    assert warned() == []
