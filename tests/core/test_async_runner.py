"""Each async task has an asyncio task of its own, and whatever it gives is awaited."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from tests.core.ways import PATIENCE, Log, Run, in_threads


def test_what_a_task_does_to_its_asyncio_task_ends_with_it(
    run: Run, queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    """The first one cancels it and returns, so that nothing of it is cancelled."""

    async def note(cancels: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        log.append((task, task.cancelling()))
        if cancels:
            task.cancel()

    async def waits() -> None:
        await asyncio.sleep(0)
        log.append("not cancelled")

    queue.add_task(note, True)
    queue.add_task(note, False)
    queue.add_task(waits)
    run(queue)
    (first, before), (second, after), last = log
    assert first is not second
    assert (before, after, last) == (0, 0, "not cancelled")
    assert errors() == []


@pytest.mark.parametrize("returned", [False, True], ids=["async", "returned by a sync task"])
def test_a_task_that_is_cancelled_as_it_begins_fails_by_itself(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]], returned: bool
) -> None:
    """Before its first step, since nobody waits for it who would have it begin at once."""

    async def waits() -> None:
        await asyncio.sleep(PATIENCE)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        schedule = loop.call_soon_threadsafe
        ours = asyncio.current_task()

        def cancel_all() -> None:
            for each in asyncio.all_tasks() - {ours}:
                each.cancel()

        def hand_over(begin: Callable[[], None]) -> None:
            def begin_and_cancel() -> None:
                begin()
                cancel_all()

            loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]
            schedule(begin_and_cancel)

        queue.options(name="cancelled").add_task((lambda: waits()) if returned else waits)
        queue.add_task(log.append, "sync")
        queue.add_task(asyncio.sleep, 0)
        queue.add_task(log.append, "last")
        if returned:
            loop.call_soon_threadsafe = hand_over  # type: ignore[method-assign,assignment]
            queue.release()
        else:
            queue.release()
            cancel_all()
        while "last" not in log:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert queue.runtime.drain() == []
    assert log == ["sync", "last"]
    assert errors() == ["Background task cancelled failed: CancelledError"]


def test_a_task_that_cancels_itself_in_its_first_step_fails_by_itself(
    queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    async def cancels() -> None:
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
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
