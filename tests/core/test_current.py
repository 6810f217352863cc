"""Which queue add_task() finds."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from bgadapters import BackgroundTasks, BackgroundTasksError, NoResponseError, add_task
from bgadapters.adapters import Runtime, current_queue, enter, find_with, leave
from tests.core import ways
from tests.core.ways import Log


def test_outside_a_response_add_task_says_what_to_do() -> None:
    with pytest.raises(NoResponseError, match="no response is being made") as refusal:
        add_task(print, "never")
    assert isinstance(refusal.value, RuntimeError)
    assert isinstance(refusal.value, BackgroundTasksError)
    assert "with BackgroundTasks() as tasks" in str(refusal.value)


def test_in_a_block_add_task_adds_to_the_queue_of_the_block(runtime: Runtime, log: Log) -> None:
    with BackgroundTasks(runtime=runtime) as tasks:
        add_task(log.append, "with")
        assert len(tasks) == 1
    with pytest.raises(NoResponseError):
        add_task(log.append, "never")
    runtime.drain(ways.PATIENCE)
    assert log == ["with"]


def test_in_an_async_block_add_task_adds_to_the_queue_of_the_block(
    runtime: Runtime, log: Log
) -> None:
    async def below() -> None:
        await asyncio.to_thread(add_task, log.append, "async with")

    async def main() -> None:
        async with BackgroundTasks(runtime=runtime):
            await below()
        assert log == ["async with"]
        with pytest.raises(NoResponseError):
            add_task(log.append, "never")

    asyncio.run(main())


def test_the_innermost_block_is_the_current_one(runtime: Runtime) -> None:
    with BackgroundTasks(runtime=runtime) as outer:
        with BackgroundTasks(runtime=runtime) as inner:
            assert current_queue() is inner
        assert current_queue() is outer


def test_a_block_that_raises_is_left_as_well(runtime: Runtime) -> None:
    with pytest.raises(ZeroDivisionError), BackgroundTasks(runtime=runtime):
        raise ZeroDivisionError
    with pytest.raises(NoResponseError):
        current_queue()


def test_a_response_closed_in_another_context_leaves_that_context_as_it_was(
    runtime: Runtime,
) -> None:
    mine, theirs = BackgroundTasks(runtime=runtime), BackgroundTasks(runtime=runtime)
    elsewhere = contextvars.Context()
    elsewhere.run(enter, theirs)

    previous = enter(mine)
    elsewhere.run(leave, mine, previous)

    assert elsewhere.run(current_queue) is theirs
    leave(mine, previous)
    with pytest.raises(NoResponseError):
        current_queue()


def test_responses_made_side_by_side_each_have_their_own_queue(runtime: Runtime) -> None:
    async def respond() -> bool:
        async with BackgroundTasks(runtime=runtime) as tasks:
            await asyncio.sleep(0)
            return current_queue() is tasks

    async def main() -> list[bool]:
        return await asyncio.gather(*(respond() for _ in range(5)))

    assert asyncio.run(main()) == [True] * 5


def test_a_thread_of_its_own_makes_no_response(runtime: Runtime, log: Log) -> None:
    def elsewhere() -> None:
        with pytest.raises(NoResponseError):
            add_task(log.append, "never")
        log.append("refused")

    with BackgroundTasks(runtime=runtime):
        thread = threading.Thread(target=contextvars.Context().run, args=(elsewhere,))
        thread.start()
        thread.join(ways.PATIENCE)
    assert log == ["refused"]


def test_where_none_is_current_a_finder_may_know_one(
    monkeypatch: pytest.MonkeyPatch, runtime: Runtime, log: Log
) -> None:
    known: list[BackgroundTasks] = []
    monkeypatch.setattr("bgadapters.core.api.current._finders", [])
    find_with(lambda: None)
    find_with(lambda: known[0] if known else None)
    with pytest.raises(NoResponseError):
        add_task(log.append, "never")
    with BackgroundTasks(runtime=runtime) as tasks:
        known.append(BackgroundTasks(runtime=runtime))
        add_task(log.append, "current")
        assert len(tasks) == 1
    add_task(log.append, "found")
    known[0].release()
    assert runtime.drain(ways.PATIENCE) == []
    assert sorted(log) == ["current", "found"]
