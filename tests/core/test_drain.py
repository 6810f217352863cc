"""A process that ends, a drain with a deadline, a fork: nothing is lost without a word."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable
from types import SimpleNamespace
from weakref import WeakSet

import pytest

import bgadapters
from bgadapters import BackgroundTasks
from bgadapters.core import drain
from bgadapters.core.runtime import Runtime
from tests.core.ways import Log, lines_of, reached, run_script


@pytest.fixture
def stuck() -> Runtime:
    """A runtime whose tasks are abandoned, so that its books are not checked."""
    return Runtime()


def test_an_idle_process_has_nothing_to_wait_for() -> None:
    assert bgadapters.drain(0) == []
    assert asyncio.run(bgadapters.adrain(0)) == []


def test_drain_waits_for_every_runtime(log: Log) -> None:
    for _ in range(2):
        with BackgroundTasks(runtime=Runtime()) as tasks:
            tasks.add_task(log.append, 1)
    assert bgadapters.drain() == []
    assert log == [1, 1]


@pytest.mark.parametrize("way", ["thread", "loop"])
def test_a_deadline_is_one_for_all_runtimes_together(
    way: str, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    runtimes = [Runtime() for _ in range(3)]
    queues = [BackgroundTasks(runtime=runtime) for runtime in runtimes]
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now

    def take_three_seconds(_: Runtime, timeout: float) -> list[str]:
        log.append(timeout)
        clock.now += 3
        return ["endless"]

    async def atake(runtime: Runtime, timeout: float) -> list[str]:
        return take_three_seconds(runtime, timeout)

    monkeypatch.setattr(drain, "_runtimes", WeakSet(runtimes))
    monkeypatch.setattr(drain, "time", clock)
    monkeypatch.setattr(Runtime, "drain", take_three_seconds)
    monkeypatch.setattr(Runtime, "adrain", atake)
    for runtime, queue in zip(runtimes, queues, strict=True):
        runtime.backlog.enter(queue)
    left = bgadapters.drain(5) if way == "thread" else asyncio.run(bgadapters.adrain(5))
    assert left == ["endless"] * 3
    assert log == [5, 2, 0]


def test_drain_refuses_to_block_a_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use 'await adrain\(\)'"):
            bgadapters.drain()

    asyncio.run(main())


@pytest.mark.parametrize("way", ["thread", "loop"])
def test_what_is_not_finished_in_time_is_abandoned_and_named(
    stuck: Runtime, log: Log, warned: Callable[[], list[str]], way: str
) -> None:
    go_on, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        reached(go_on)

    queue = BackgroundTasks(runtime=stuck)
    queue.options(name="running").add_task(hold)
    queue.options(name="waiting").add_task(log.append, 1)
    queue.release()
    reached(started)
    left = stuck.drain(0.01) if way == "thread" else asyncio.run(stuck.adrain(0.01))
    assert left == ["running", "waiting"]
    assert warned() == [
        "2 background task(s) abandoned, not finished within the drain timeout of 0.01 s: "
        "running, waiting"
    ]
    go_on.set()
    assert stuck.drain() == []
    assert log == []
    assert stuck.backlog.taken == 0


@pytest.mark.parametrize("way", ["own loop", "this loop"])
def test_async_tasks_that_are_not_finished_in_time_are_cancelled(
    stuck: Runtime, log: Log, way: str
) -> None:
    started = threading.Event()

    async def task() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cleaned up")
            raise

    queue = BackgroundTasks(runtime=stuck)
    queue.options(name="endless").add_task(task)
    queue.options(name="waiting").add_task(task)

    async def main() -> list[str]:
        ended = asyncio.create_task(queue.arelease())
        while not started.is_set():
            await asyncio.sleep(0)
        left = await stuck.adrain(0.01)
        await ended  # it is told that the queue is done, and is not cancelled with the task
        return left

    if way == "own loop":
        queue.release()
        reached(started)
        left = stuck.drain(0.01)
    else:
        left = asyncio.run(main())
    assert left == ["endless", "waiting"]
    assert log == ["cleaned up"]
    assert stuck.drain() == []


def test_adrain_waits_without_blocking(log: Log) -> None:
    go_on = threading.Event()

    async def main() -> None:
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(reached, go_on)
        waiting = asyncio.create_task(bgadapters.adrain())
        await asyncio.sleep(0)
        log.append("not blocked")
        go_on.set()
        assert await waiting == []

    runtime = Runtime()
    asyncio.run(main())
    assert log == ["not blocked"]


def test_at_the_end_of_the_process_what_was_released_runs() -> None:
    """Sync and async, and async tasks that use thread pools of their own."""
    assert lines_of(
        """
        import asyncio, time
        from bgadapters import BackgroundTasks

        async def task():
            await asyncio.sleep(0.05)
            print(await asyncio.to_thread(str, "async"), flush=True)

        with BackgroundTasks() as tasks:
            tasks.add_task(time.sleep, 0.05)
            tasks.add_task(print, "sync", flush=True)
            tasks.add_task(task)
            tasks.add_task(print, "last", flush=True)
        print("main", flush=True)
        """
    ) == ["main", "sync", "async", "last"]


def test_at_the_end_of_the_process_the_deadline_holds_and_what_is_left_is_named() -> None:
    done = run_script(
        """
        import threading
        from bgadapters import BackgroundTasks
        from bgadapters.core.runtime import Runtime
        from bgadapters.core.settings import Settings

        runtime = Runtime(Settings(drain_timeout=0.1))
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.options(name="endless").add_task(threading.Event().wait)
            tasks.options(name="waiting").add_task(print, "never")
        """
    )
    assert done.returncode == 0
    assert done.stdout == ""
    assert "2 background task(s) abandoned" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.rstrip().endswith("timeout of 0.1 s: endless, waiting")


def test_a_forked_child_runs_its_own_tasks_and_none_of_its_parents() -> None:
    assert sorted(
        lines_of(
            """
            import os, sys, threading
            from bgadapters import BackgroundTasks, drain

            go_on = threading.Event()

            def tell(what):
                where = "parent" if os.getpid() == parent else "child"
                os.write(1, f"{what} in {where}\\n".encode())

            async def atell(what):
                tell(what)

            parent = os.getpid()
            for what in ("before", "async before"):
                with BackgroundTasks() as tasks:
                    tasks.add_task(atell if "async" in what else tell, what)
            drain()
            with BackgroundTasks() as tasks:
                tasks.add_task(go_on.wait)
                tasks.add_task(tell, "waiting")
            child = os.fork()
            go_on.set()
            with BackgroundTasks() as tasks:
                tasks.add_task(tell, "after")
                tasks.add_task(atell, "async after")
            if child:
                assert os.waitpid(child, 0)[1] == 0
            """,
            flags=("-W", "ignore:This process:DeprecationWarning"),  # Python 3.12: it has threads
        )
    ) == [
        "after in child",
        "after in parent",
        "async after in child",
        "async after in parent",
        "async before in parent",
        "before in parent",
        "waiting in parent",
    ]


def test_a_child_forgets(monkeypatch: pytest.MonkeyPatch, stuck: Runtime, log: Log) -> None:
    """The same without a fork: threads, loop and queues are new, the settings as before."""
    monkeypatch.setattr(drain, "_runtimes", WeakSet([stuck]))
    go_on, started = threading.Event(), threading.Event()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.add_task(started.set)
        tasks.add_task(go_on.wait)
    reached(started)
    drain._forget()
    assert stuck.backlog.live() == []
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.add_task(log.append, "child's")
    assert stuck.drain() == []
    assert log == ["child's"]
    go_on.set()


def test_a_python_without_threadings_hook_still_drains(monkeypatch: pytest.MonkeyPatch) -> None:
    hooked: Log = []
    monkeypatch.delattr(threading, "_register_atexit")
    monkeypatch.setattr(atexit, "register", hooked.append)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    monkeypatch.setattr(drain, "_hooked", False)
    drain.watch(Runtime())
    drain.watch(Runtime())
    (at_exit,) = hooked
    with BackgroundTasks() as tasks:
        tasks.add_task(hooked.append, "drained")
    at_exit()
    assert hooked[1:] == ["drained"]


def test_what_was_given_up_at_exit_is_not_waited_for_again(
    monkeypatch: pytest.MonkeyPatch, stuck: Runtime, log: Log
) -> None:
    def give_up() -> list[str]:
        log.append("drained")
        return ["endless"]

    monkeypatch.setattr(drain, "_given_up", False)
    monkeypatch.setattr(drain, "drain", give_up)
    drain._at_exit()
    drain._at_exit()
    assert log == ["drained"]


def test_a_queue_that_finishes_at_the_deadline_leaves_nothing_to_name(
    stuck: Runtime, warned: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=stuck)
    stuck.backlog.enter(queue)  # its last task has been taken and has ended
    assert stuck.drain(0) == []
    assert warned() == []
    stuck.backlog.leave(queue, 0)
