"""An async task that blocks its event loop is named, by a thread that is there while any run."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core import host
from bgadapters.core.drivers.loop_watch import LoopWatch
from bgadapters.core.model.task import Task
from tests.core.ways import PATIENCE, MakeRuntime, lines_of, reached

SOON = 0.02


def wait_for(warned: Callable[[], list[str]]) -> None:
    """Block this thread until something was told: here that is the thread of a loop."""
    deadline = time.monotonic() + PATIENCE
    while not warned():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("awaits_first", [False, True])
@pytest.mark.parametrize("is_released", [False, True])
def test_a_task_that_blocks_its_loop_is_named_once(
    make_runtime: MakeRuntime,
    warned: Callable[[], list[str]],
    awaits_first: bool,
    is_released: bool,
) -> None:
    """In its first step and in a later one; whether or not a call waits for it."""
    runtime = make_runtime(stall_warning=SOON)

    async def blocks() -> None:
        if awaits_first:
            await asyncio.sleep(0)
        wait_for(warned)
        time.sleep(4 * SOON)

    async def main() -> None:
        tasks = BackgroundTasks(runtime=runtime)
        tasks.options(name="the one").add_task(blocks)
        if is_released:
            tasks.release()
            assert await runtime.adrain(PATIENCE) == []
        else:
            await tasks.arelease()

    asyncio.run(main())
    (warning,) = warned()
    first, *stack = warning.splitlines()
    assert first.startswith("A background task blocks its event loop, which has not gone on for 0.")
    assert ": the one. Make it a plain function" in first
    assert "in blocks" in stack[0]
    assert stack[1] == "    wait_for(warned)"
    assert not any("asyncio" in line for line in stack)


def test_so_is_one_on_the_background_loop_and_each_that_does_it(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    runtime = make_runtime(stall_warning=SOON)

    def until(count: int) -> Callable[[], list[str]]:
        return lambda: warned()[count - 1 :]

    async def blocks(count: int) -> None:
        wait_for(until(count))

    for count in (1, 2):
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.options(name=f"number {count}").add_task(blocks, count)
        assert runtime.drain(PATIENCE) == []
        told = threading.Event()
        with BackgroundTasks(runtime=runtime) as tasks:  # the loop goes on
            tasks.add_task(asyncio.sleep, 3 * SOON)
            tasks.add_task(told.set)
        reached(told)
    assert runtime.drain(PATIENCE) == []
    assert [f"number {n}" in warning for n, warning in enumerate(warned(), 1)] == [True, True]


def test_a_task_that_waits_blocks_nothing(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    runtime = make_runtime(stall_warning=SOON)

    async def main() -> None:
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(asyncio.sleep, 5 * SOON)

    asyncio.run(main())
    assert warned() == []


def test_what_else_blocks_the_loop_is_no_task_of_ours(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    """A view that does: a task which waits meanwhile is not blamed."""
    runtime = make_runtime(stall_warning=SOON)

    async def main() -> None:
        tasks = BackgroundTasks(runtime=runtime)
        tasks.add_task(asyncio.sleep, 5 * SOON)
        tasks.release()
        await asyncio.sleep(SOON / 2)
        time.sleep(4 * SOON)
        assert await runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    assert warned() == []


def test_it_can_be_turned_off(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(stall_warning=0)
    assert runtime.scheduler.loops.watch is None
    runtime.reset_after_fork()


class Watched:
    """A watch, and what it tells."""

    def __init__(self, has_tasks: bool = False) -> None:
        self.told: list[str] = []
        self.has_tasks = has_tasks
        self.watch = LoopWatch(SOON, self.tell, lambda: self.has_tasks)

    def tell(self, task: Task, stack: str) -> None:
        self.told.append(stack)

    async def until_it_has_looked(self) -> None:
        """And has left the loop alone."""
        deadline = time.monotonic() + PATIENCE
        while self.watch.loops:
            assert time.monotonic() < deadline
            await asyncio.sleep(SOON / 4)


def test_a_loop_is_watched_as_long_as_there_are_tasks() -> None:
    async def main() -> None:
        watched = Watched(has_tasks=True)
        watched.watch.begin(asyncio.get_running_loop())
        await asyncio.sleep(5 * SOON)
        assert watched.watch.loops
        watched.has_tasks = False
        await watched.until_it_has_looked()
        assert watched.told == []

    asyncio.run(main())


def test_a_loop_that_was_closed_or_has_stopped_is_left_alone() -> None:
    watched = Watched(has_tasks=True)
    closed, stopped = asyncio.new_event_loop(), asyncio.new_event_loop()
    closed.close()
    watched.watch.begin(closed)
    watched.watch.begin(stopped)
    asyncio.run(watched.until_it_has_looked())
    stopped.close()


def test_a_loop_in_whose_thread_nothing_is_known_to_run_is_left_alone() -> None:
    """It is held, and has never told which thread is its own."""
    watched = Watched()
    held, go_on = threading.Event(), threading.Event()

    async def hold() -> None:
        held.set()
        reached(go_on)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(hold(),))
    thread.start()
    reached(held)
    watched.watch.begin(loop)
    asyncio.run(asyncio.sleep(3 * SOON))
    go_on.set()
    thread.join()
    loop.close()
    asyncio.run(watched.until_it_has_looked())
    assert watched.told == []


def test_a_forked_child_watches_nothing_of_its_parents(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()

    async def main() -> None:
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(asyncio.sleep, 0)
        watch = runtime.scheduler.loops.watch
        assert watch is not None
        assert watch.loops
        watch.reset_after_fork()
        assert not watch.loops

    asyncio.run(main())


def test_under_greenlets_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that would look is blocked with the loop."""
    monkeypatch.setattr(host, "threads_are_greenlets", lambda: True)

    async def main() -> None:
        watched = Watched()
        watched.watch.begin(asyncio.get_running_loop())
        assert not watched.watch.loops

    asyncio.run(main())


def test_nothing_of_a_request_is_kept(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    variable: ContextVar[object] = ContextVar("variable")

    class Request: ...

    async def main() -> weakref.ref[Request]:
        request = Request()
        variable.set(request)
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(asyncio.sleep, 0)
        return weakref.ref(request)

    async def serve() -> weakref.ref[Request]:
        return await asyncio.create_task(main())

    with asyncio.Runner() as runner:
        kept = runner.run(serve())
        gc.collect()
        assert kept() is None


def test_no_thread_is_left_when_nothing_runs() -> None:
    script = """
    import asyncio, threading
    from bgadapters import BackgroundTasks
    from bgadapters.adapters import Runtime, Settings

    runtime = Runtime(Settings(stall_warning=0.05))

    async def main():
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(asyncio.sleep, 0.2)
        for thread in threading.enumerate():
            if thread.name == "bgadapters-timer":
                await asyncio.to_thread(thread.join)
                print("ended")

    asyncio.run(main())
    """
    assert lines_of(script) == ["ended"]


def test_a_forked_child_watches_no_loop_of_its_parent(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()

    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(asyncio.sleep, 0)
        await queue.arelease()

    asyncio.run(main())
    watch = runtime.scheduler.loops.watch
    assert watch is not None
    runtime.reset_after_fork()
    assert not watch.loops
