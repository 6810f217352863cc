"""A process that ends, a drain with a deadline, a fork: nothing is lost without a word."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest

import bgadapters
from bgadapters import BackgroundTasks, asgi_lifespan
from bgadapters.adapters import Runtime, Settings
from bgadapters.core.app import drainer
from bgadapters.core.drivers import origin_loop
from bgadapters.core.process import shutdown, signals
from tests.core.conftest import stop_loop
from tests.core.ways import (
    PATIENCE,
    Log,
    lines_of,
    reached,
    run_script,
    starts_threads_at_exit,
)


@pytest.fixture
def stuck() -> Iterator[Runtime]:
    """A runtime whose tasks are abandoned, so that its books are not checked."""
    runtime = Runtime()
    yield runtime
    stop_loop(runtime)


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

    monkeypatch.setattr(shutdown, "_applications", WeakSet(runtimes))
    monkeypatch.setattr(shutdown, "time", clock)
    monkeypatch.setattr(Runtime, "drain", take_three_seconds)
    monkeypatch.setattr(Runtime, "adrain", atake)
    for runtime, queue in zip(runtimes, queues, strict=True):
        runtime.in_flight.enter(queue.batch)
    left = bgadapters.drain(5) if way == "thread" else asyncio.run(bgadapters.adrain(5))
    assert left == ["endless"] * 3
    assert log == [5, 2, 0]


def test_drain_refuses_to_block_a_loop() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use 'await adrain\(\)'"):
            bgadapters.drain()

    asyncio.run(main())


@pytest.mark.parametrize("whose", ["process", "application"])
@pytest.mark.parametrize("who", ["task", "thread of a task", "hook"])
def test_a_task_cannot_drain_as_it_would_wait_for_itself(whose: str, who: str, log: Log) -> None:
    def drain(*_: object) -> None:
        try:
            runtime.drain(PATIENCE) if whose == "application" else bgadapters.drain(PATIENCE)
        except RuntimeError as exc:
            log.append(str(exc))

    def in_a_thread() -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(drain,))
        thread.start()
        thread.join()

    runtime = Runtime(Settings(on_error=drain if who == "hook" else None))
    with BackgroundTasks(runtime=runtime) as tasks:
        funcs: dict[str, Any] = {"task": drain, "thread of a task": in_a_thread, "hook": int}
        func = funcs[who]
        tasks.options(name="it").add_task(func, *(["no number"] if who == "hook" else []))
        tasks.add_task(log.append, "goes on")
    assert runtime.drain(PATIENCE) == []
    refused, *others = log
    assert refused.startswith("drain() was called by a background task (it). It waits for all")
    assert others == ["goes on"]


@pytest.mark.parametrize("on_a_loop", [False, True], ids=["own loop", "this loop"])
def test_an_async_task_cannot_drain_either(on_a_loop: bool, runtime: Runtime, log: Log) -> None:
    async def drain() -> None:
        for call in (runtime.adrain, bgadapters.adrain):
            with pytest.raises(RuntimeError, match=r"adrain\(\) was called by a background task"):
                await call(PATIENCE)
        log.append("refused")

    async def main() -> None:
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(drain)

    if on_a_loop:
        asyncio.run(main())
    else:
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(drain)
        assert runtime.drain(PATIENCE) == []
    assert log == ["refused"]


def test_what_a_task_has_started_may_drain_when_the_task_has_ended(
    runtime: Runtime, log: Log
) -> None:
    ended = threading.Event()
    started: list[threading.Thread] = []

    def drain() -> None:
        reached(ended)
        log.append(runtime.drain(PATIENCE))

    def task() -> None:
        started.append(threading.Thread(target=contextvars.copy_context().run, args=(drain,)))
        started[0].start()

    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(task)
    assert runtime.drain(PATIENCE) == []
    ended.set()
    started[0].join()
    assert log == [[]]


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
    assert stuck.drain() == []  # what was given up is not waited for again
    finished = threading.Event()
    assert queue.batch.on_finished(finished.set)
    go_on.set()
    reached(finished)
    assert log == []
    assert stuck.in_flight.in_use == 0


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


@starts_threads_at_exit
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
        from bgadapters.adapters import Runtime
        from bgadapters.adapters import Settings

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


@starts_threads_at_exit
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
    monkeypatch.setattr(shutdown, "_applications", WeakSet([stuck]))
    go_on, started = threading.Event(), threading.Event()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.add_task(started.set)
        tasks.add_task(go_on.wait)
    reached(started)
    shutdown._reset_after_fork()
    assert stuck.in_flight.live() == []
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
    monkeypatch.setattr(shutdown, "_is_hooked", False)
    shutdown.register(Runtime())
    shutdown.register(Runtime())
    _, at_exit = hooked
    with BackgroundTasks() as tasks:
        tasks.add_task(hooked.append, "drained")
    at_exit()
    assert hooked[2:] == ["drained"]


def test_what_was_given_up_at_exit_is_not_waited_for_again(
    stuck: Runtime, at_exit: Callable[[], None], warned: Callable[[], list[str]]
) -> None:
    """But what came after it is."""
    log: Log = []
    short = Runtime(Settings(drain_timeout=0.01))
    shutdown.register(short)
    go_on = threading.Event()
    with BackgroundTasks(runtime=short) as tasks:
        tasks.add_task(reached, go_on)
    at_exit()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.add_task(log.append, "later")
    at_exit()
    at_exit()
    go_on.set()
    assert log == ["later"]
    assert len(warned()) == 1
    assert short.drain() == []


@starts_threads_at_exit
def test_the_first_tasks_may_come_when_the_main_thread_is_over() -> None:
    """As those of a server in a thread that is no daemon."""
    assert lines_of(
        """
        import asyncio, threading
        from bgadapters import BackgroundTasks

        async def task():
            await asyncio.sleep(0.05)
            print("async", flush=True)

        def serve():
            threading.main_thread().join()
            with BackgroundTasks() as tasks:
                tasks.add_task(print, "sync", flush=True)
                tasks.add_task(task)
                tasks.add_task(print, "last", flush=True)

        threading.Thread(target=serve).start()
        """
    ) == ["sync", "async", "last"]


def test_threading_may_take_no_more_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor can concurrent.futures be imported there, once the main thread is over."""
    hooked: Log = []

    def refuse(_: object) -> None:
        raise RuntimeError("can't register atexit after shutdown")

    monkeypatch.setattr(threading, "_register_atexit", refuse)
    monkeypatch.setattr(atexit, "register", hooked.append)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)
    monkeypatch.setattr(shutdown, "_is_hooked", False)
    shutdown.register(Runtime())
    assert hooked == [shutdown._close, shutdown._at_last_exit]  # the last one is called first


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch, stuck: Runtime) -> Callable[[], None]:
    """Do as the exit hooks do, with one runtime, and leave the signals of the tests alone."""
    monkeypatch.setattr(shutdown, "_applications", WeakSet([stuck]))
    monkeypatch.setattr(signals, "ending_at_once", contextlib.nullcontext)
    return shutdown._at_exit


def asyncio_tasks(queue: BackgroundTasks) -> list[Any]:
    """Those of a queue, which asyncio would say are pending when they are collected."""
    carrier: Any = queue.batch.carrier
    return [each for each in (carrier._task, carrier._user_task) if each is not None]


def released(stuck: Runtime, loop: asyncio.AbstractEventLoop, *tasks: Any) -> BackgroundTasks:
    """A queue of a loop that its server has stopped in the middle of the first task."""
    queue = BackgroundTasks(runtime=stuck)
    for number, task in enumerate(tasks):
        queue.options(name=f"{number}").add_task(task)

    async def serve() -> None:
        queue.release()
        await asyncio.sleep(0)

    loop.run_until_complete(serve())
    return queue


def test_a_stopped_loop_runs_again_until_its_tasks_have_finished(
    stuck: Runtime, log: Log, at_exit: Callable[[], None], errors: Callable[[], list[str]]
) -> None:
    """As daphne and granian leave theirs: stopped, neither closed nor its tasks cancelled."""
    loop = asyncio.new_event_loop()

    async def task() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        log.append(asyncio.get_running_loop())

    released(stuck, loop, task, lambda: log.append("sync"), task)
    at_exit()
    assert log == [loop, "sync", loop]
    loop.close()
    assert errors() == []


def test_a_loop_that_has_yet_to_stop_runs_again_all_the_same(
    stuck: Runtime, log: Log, at_exit: Callable[[], None]
) -> None:
    loop = asyncio.new_event_loop()

    async def task() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        log.append("ran")

    released(stuck, loop, task)
    loop.call_soon(loop.stop)
    at_exit()
    assert log == ["ran"]
    loop.close()


def test_a_loop_that_is_stopped_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, stuck: Runtime
) -> None:
    monkeypatch.setattr(origin_loop, "_STOPS", 1)
    loop = asyncio.new_event_loop()

    async def sleep() -> None:
        await asyncio.sleep(0.01)

    queue = released(stuck, loop, sleep)
    loop.call_soon(loop.stop)
    origin_loop.run_stopped(stuck.in_flight, PATIENCE)
    assert stuck.in_flight.live() == [queue.batch]
    origin_loop.run_stopped(stuck.in_flight, PATIENCE)
    assert stuck.in_flight.live() == []
    loop.close()


def test_a_runtime_that_fails_at_exit_does_not_cost_the_others(
    monkeypatch: pytest.MonkeyPatch,
    stuck: Runtime,
    at_exit: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    go_on = threading.Event()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.add_task(reached, go_on)
    monkeypatch.setattr(Runtime, "drain_at_exit", fail)
    at_exit()
    go_on.set()
    assert "of one application has failed" in caplog.text
    assert stuck.drain() == []


def test_a_closed_loop_costs_the_task_that_it_was_running(
    stuck: Runtime, log: Log, at_exit: Callable[[], None], errors: Callable[[], list[str]]
) -> None:
    loop = asyncio.new_event_loop()

    async def begun() -> None:
        await asyncio.Event().wait()

    async def task() -> None:
        log.append(asyncio.get_running_loop() is loop)

    async def ignores() -> None:
        with contextlib.suppress(GeneratorExit):
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    thrown_away = [
        *asyncio_tasks(released(stuck, loop, begun, task)),
        *asyncio_tasks(released(stuck, loop, ignores, task)),
        *asyncio_tasks(released(stuck, loop, ignores)),
    ]
    loop.close()
    at_exit()
    assert log == [False, False]
    assert len(errors()) == 3
    for each in thrown_away:
        each._log_destroy_pending = False


def test_a_loop_closed_before_the_first_step_costs_nothing(
    stuck: Runtime, log: Log, at_exit: Callable[[], None]
) -> None:
    loop = asyncio.new_event_loop()
    queue = BackgroundTasks(runtime=stuck)

    async def task() -> None:
        log.append("ran")

    def serve() -> None:
        queue.add_task(task)
        queue.release()

    loop.call_soon(serve)
    loop.call_soon(loop.stop)
    loop.run_forever()
    thrown_away = asyncio_tasks(queue)
    loop.close()
    at_exit()
    assert log == ["ran"]
    for each in thrown_away:
        each._log_destroy_pending = False


def test_the_worker_that_has_the_queue_of_a_closed_loop_keeps_it(
    stuck: Runtime, log: Log, at_exit: Callable[[], None]
) -> None:
    loop, go_on, started = asyncio.new_event_loop(), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        reached(go_on)

    async def task() -> None:
        log.append("async")

    released(stuck, loop, hold, task)
    reached(started)
    loop.close()
    threading.Timer(0.05, go_on.set).start()
    at_exit()
    assert log == ["async"]


def test_a_loop_that_still_runs_elsewhere_is_left_to_itself(
    stuck: Runtime, log: Log, at_exit: Callable[[], None]
) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    queue = BackgroundTasks(runtime=stuck)

    started = threading.Event()

    async def task() -> None:
        started.set()
        await asyncio.sleep(0.01)
        log.append(threading.current_thread() is thread)

    queue.add_task(task)
    loop.call_soon_threadsafe(queue.release)
    started.wait()
    at_exit()
    assert log == [True]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_what_a_stopped_loop_does_not_finish_is_cancelled_and_named(
    monkeypatch: pytest.MonkeyPatch, log: Log, warned: Callable[[], list[str]]
) -> None:
    loop, endless = asyncio.new_event_loop(), Runtime(Settings(drain_timeout=0.03))
    monkeypatch.setattr(drainer, "_SILENCE", 0.01)

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cleaned up")

    released(endless, loop, task, task)
    assert endless.drain_at_exit(0.03) == ["0", "1"]
    assert log == ["cleaned up"]
    assert warned() == [
        "The process ends when 2 background task(s) have finished, or in 0.02 s; Ctrl-C, twice, "
        "ends it at once: 0, 1",
        "2 background task(s) abandoned, not finished within the drain timeout of 0.03 s: 0, 1",
    ]
    assert endless.drain() == []
    loop.close()


def test_what_finishes_after_a_second_was_announced_and_is_well(
    monkeypatch: pytest.MonkeyPatch, stuck: Runtime, warned: Callable[[], list[str]]
) -> None:
    monkeypatch.setattr(drainer, "_SILENCE", 0.01)
    go_on = threading.Event()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.options(name="long").add_task(reached, go_on)
    threading.Timer(0.05, go_on.set).start()
    assert stuck.drain_at_exit(PATIENCE) == []
    assert len(warned()) == 1


def test_a_queue_that_finishes_at_the_deadline_leaves_nothing_to_name(
    stuck: Runtime, warned: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=stuck)
    stuck.in_flight.enter(queue.batch)  # its last task has been taken and has ended
    assert stuck.drain(0) == []
    assert warned() == []
    stuck.in_flight.leave(queue.batch, 0)


def test_a_deadline_of_less_than_a_second_is_not_announced(
    stuck: Runtime, warned: Callable[[], list[str]]
) -> None:
    go_on = threading.Event()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.options(name="long").add_task(reached, go_on)
    assert stuck.drain_at_exit(0.01) == ["long"]
    go_on.set()
    assert len(warned()) == 1
    assert "abandoned" in warned()[0]
    assert stuck.drain() == []


class _Told:
    """An application that notes how much time it is given."""

    drain_timeout = 1.0
    outbox = None

    def __init__(self, log: Log) -> None:
        self._log = log

    def has_work(self) -> bool:
        return True

    def drain(self, timeout: float) -> list[str]:
        self._log.append(timeout)
        return []

    async def adrain(self, timeout: float) -> list[str]:
        return self.drain(timeout)

    drain_at_exit = drain


@pytest.mark.parametrize("how", ["drain", "adrain", "exit", "lifespan"])
def test_only_the_time_that_others_took_is_taken_off(
    how: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning says how much an application had: it is what was set, also on a busy machine."""
    first, second = told = [_Told(log), _Told(log)]
    clock = SimpleNamespace(monotonic=partial(next, count(5.0, 0.25)))
    for module in (shutdown, asgi_lifespan):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(shutdown, "applications", lambda: told)
    monkeypatch.setattr(asgi_lifespan, "default_runtime", lambda: second)
    if how == "drain":
        shutdown.drain()
    elif how == "adrain":
        asyncio.run(shutdown.adrain())
    elif how == "exit":
        shutdown._drain_at_exit(told)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    else:
        asyncio.run(asgi_lifespan._drain(first))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert log == [1.0, 0.75]
