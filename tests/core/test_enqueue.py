"""One call for code that is used in requests and outside of them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

import bgadapters
from bgadapters import BackgroundTasks, enqueue, forget
from bgadapters.adapters import Runtime, make_own_queues
from bgadapters.core.api import enqueue as enqueues
from tests.core import ways
from tests.core.ways import Log


@pytest.fixture(autouse=True)
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has imported none; what a test adds is gone with it."""
    monkeypatch.setattr(enqueues, "_makers", [])
    monkeypatch.setattr(enqueues, "_fallbacks", [])
    yield
    assert bgadapters.drain(ways.PATIENCE) == []


def test_where_a_response_is_being_made_it_does_as_add_task(
    queue: BackgroundTasks, log: Log
) -> None:
    with queue:
        enqueue(log.append, "enqueued")
        queue.add_task(log.append, "added")
        assert (len(queue), log) == (2, [])
    queue.runtime.drain(ways.PATIENCE)
    assert log == ["enqueued", "added"]


def test_elsewhere_the_task_runs_at_once(log: Log) -> None:
    done = threading.Event()
    enqueue(done.set)
    ways.reached(done)


def test_on_a_loop_too(log: Log) -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def task() -> None:
            log.append(asyncio.get_running_loop() is loop)
            done.set()

        loop = asyncio.get_running_loop()
        enqueue(task)
        await asyncio.wait_for(done.wait(), ways.PATIENCE)
        await bgadapters.adrain(ways.PATIENCE)

    asyncio.run(main())
    assert log == [True]


def test_a_thread_that_its_response_did_not_wait_for_is_elsewhere(
    queue: BackgroundTasks, log: Log
) -> None:
    with queue:
        context = contextvars.copy_context()
    queue.runtime.drain(ways.PATIENCE)
    thread = threading.Thread(target=context.run, args=(enqueue, log.append, "late"))
    thread.start()
    thread.join()
    bgadapters.drain(ways.PATIENCE)
    assert log == ["late"]


def test_in_a_task_it_adds_to_the_task_s_own_queue(queue: BackgroundTasks, log: Log) -> None:
    def task() -> None:
        enqueue(log.append, "added by the task")
        log.append("task")

    with queue:
        enqueue(task)
        enqueue(log.append, "after")
    queue.runtime.drain(ways.PATIENCE)
    assert log == ["task", "after", "added by the task"]


def test_what_is_refused_is_refused_in_the_same_way(queue: BackgroundTasks) -> None:
    with queue, pytest.raises(TypeError, match="cannot call"):
        enqueue(ways.reached)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="cannot call"):
        enqueue(ways.reached)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="which cannot be called"):
        enqueue(None)  # type: ignore[arg-type]


def test_a_framework_makes_the_queue_where_it_knows_of_an_application(
    make_runtime: ways.MakeRuntime, log: Log
) -> None:
    """Those that know an application are asked before those that know their framework alone."""
    general, special = (
        make_runtime(on_event=lambda _, name=name: log.append(name)) for name in "gs"
    )
    here: list[Runtime] = []
    make_own_queues(lambda: BackgroundTasks(runtime=general), is_fallback=True)
    make_own_queues(lambda: BackgroundTasks(runtime=here[0]) if here else None)
    enqueue(len, "")
    general.drain(ways.PATIENCE)
    here.append(special)
    enqueue(len, "")
    special.drain(ways.PATIENCE)
    assert log == ["g"] * 3 + ["s"] * 3


def test_forget_finds_the_application(queue: BackgroundTasks) -> None:
    def later(tasks: BackgroundTasks) -> None:
        tasks.options(key="k", delay=1000).add_task(print)

    with BackgroundTasks(runtime=queue.runtime) as other:
        later(other)
    with queue:
        assert forget("k") is True
        assert forget("k") is False
    assert forget("k") is False
    with BackgroundTasks() as elsewhere:
        later(elsewhere)
    assert forget("k") is True
    with pytest.raises(TypeError, match="a string that is not empty"):
        forget("")
