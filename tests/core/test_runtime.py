"""What one application runs with: room, scopes, threads that cannot be had."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from bgadapters.core.pool import Pool

from bgadapters import BackgroundTasks
from bgadapters.core.app import runtime
from bgadapters.core.app.runtime import loop_runs_here
from tests.core.ways import PATIENCE, Log, MakeRuntime, in_threads, reached


def full(make_runtime: MakeRuntime) -> tuple[BackgroundTasks, BackgroundTasks, threading.Event]:
    """A queue that fills its backlog, one that waits, and what lets the first finish."""
    made = make_runtime(max_pending=1)
    go_on = threading.Event()
    first, second = BackgroundTasks(runtime=made), BackgroundTasks(runtime=made)
    first.add_task(reached, go_on)
    first.release()
    return first, second, go_on


def test_a_thread_waits_for_room(make_runtime: MakeRuntime, log: Log) -> None:
    _, second, go_on = full(make_runtime)
    second.add_task(log.append, "second")

    def release() -> None:
        second.runtime.room(second)
        log.append("room")
        second.release()

    waiting = threading.Thread(target=release)
    waiting.start()
    assert log == []
    go_on.set()
    waiting.join(PATIENCE)
    assert second.runtime.drain() == []
    assert log == ["room", "second"]


def test_a_loop_waits_for_room_and_goes_on_meanwhile(make_runtime: MakeRuntime, log: Log) -> None:
    _, second, go_on = full(make_runtime)
    second.add_task(log.append, "second")

    async def main() -> None:
        waiting = asyncio.create_task(second.runtime.aroom(second))
        await asyncio.sleep(0)
        log.append("meanwhile")
        go_on.set()
        await asyncio.wait_for(waiting, PATIENCE)
        await second.arelease()

    asyncio.run(main())
    assert log == ["meanwhile", "second"]


def test_where_there_is_room_nobody_waits(make_runtime: MakeRuntime) -> None:
    made = make_runtime(max_pending=1)
    queue = BackgroundTasks(runtime=made)
    for _ in range(3):
        queue.add_task(print, end="")
    made.room(queue)  # larger than the bound, but alone
    asyncio.run(made.aroom(queue))
    assert made.in_flight.in_use == 3
    in_threads(queue)
    assert made.in_flight.in_use == 0


def test_a_loop_that_ended_while_it_waited_is_left_alone(make_runtime: MakeRuntime) -> None:
    first, second, go_on = full(make_runtime)
    second.add_task(print, end="")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.runtime.aroom(second), 0.01)

    asyncio.run(main())
    go_on.set()
    assert first.runtime.drain() == []
    in_threads(second)


def test_without_asyncio_there_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert loop_runs_here()
        monkeypatch.delitem(sys.modules, "asyncio")
        assert not loop_runs_here()
        monkeypatch.undo()
        monkeypatch.setattr(threading, "get_ident", lambda: 0)  # another greenlet, under gevent
        assert not loop_runs_here()
        monkeypatch.undo()

    assert not loop_runs_here()
    asyncio.run(main())


def test_the_default_runtime_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_default", None)
    assert runtime.default_runtime() is runtime.default_runtime()


def test_a_scope_is_entered_around_sync_and_async_tasks(
    make_runtime: MakeRuntime, log: Log
) -> None:
    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        log.append("in")
        yield
        log.append("out")

    queue = BackgroundTasks(runtime=make_runtime(scope=scope))

    async def task() -> None:
        await asyncio.sleep(0)
        log.append("async")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    in_threads(queue)
    assert log == ["in", "sync", "out", "in", "async", "out"]


def test_a_snapshot_is_taken_before_the_context_is_copied(make_runtime: MakeRuntime) -> None:
    taken: Log = []
    queue = BackgroundTasks(runtime=make_runtime(snapshot=lambda: taken.append(1)))
    queue.add_task(print, end="")
    assert taken == [1]
    in_threads(queue)


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


def test_the_threads_there_are_do_the_work_of_those_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(max_workers=3)
    go_on, done = threading.Event(), threading.Event()
    assert pool.submit(lambda: reached(go_on))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert pool.submit(done.set)
    assert not done.is_set()
    go_on.set()
    reached(done)


def test_a_pool_has_no_more_threads_than_it_may_and_uses_idle_ones() -> None:
    pool = Pool(max_workers=2)
    names: Log = []
    meeting = threading.Barrier(3)

    def meet() -> None:
        names.append(threading.current_thread().name)
        meeting.wait(PATIENCE)

    for _ in range(2):
        pool.submit(meet)
        pool.submit(meet)
        meeting.wait(PATIENCE)
    for _ in range(3):  # one more than there are threads: it waits its turn
        pool.submit(lambda: names.append(threading.current_thread().name))
    last = threading.Event()
    pool.submit(last.set)
    reached(last)
    assert set(names) == {"bgadapters-1", "bgadapters-2"}
