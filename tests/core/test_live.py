"""A queue whose tasks start as they are added."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bgadapters import QueueClosedError, QueueFullError
from bgadapters.core.api.live import LiveTasks
from bgadapters.core.app import drainer
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.settings import Settings
from tests.core.test_limits import Held
from tests.core.ways import PATIENCE, reached


def test_tasks_run_in_order_while_others_may_be_added() -> None:
    log: list[str] = []

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()

        async def task(number: int, done: asyncio.Event) -> None:
            await asyncio.sleep(0)
            log.append(f"task {number}")
            done.set()

        tasks = LiveTasks()
        tasks.add_task(task, 1, first)
        assert log == []  # not in the middle of whoever adds it
        await first.wait()
        tasks.add_task(log.append, "plain")
        tasks.add_task(task, 2, second)
        await second.wait()
        assert tasks.is_open
        tasks.add_task(task, 3, second)
        await tasks.arelease()
        assert not tasks.is_open

    asyncio.run(main())
    assert log == ["task 1", "plain", "task 2", "task 3"]


def test_async_tasks_added_by_a_thread_run_on_the_loop_of_the_queue() -> None:
    loops: list[bool] = []

    async def main() -> None:
        here = asyncio.get_running_loop()

        async def task() -> None:
            loops.append(asyncio.get_running_loop() is here)

        tasks = LiveTasks()
        await asyncio.to_thread(tasks.add_task, task)
        await tasks.arelease()

    asyncio.run(main())
    assert loops == [True]


def test_many_threads_may_add_at_one_time_and_no_task_is_lost() -> None:
    ran: list[int] = []

    async def main() -> None:
        tasks = LiveTasks()

        def add(number: int) -> None:
            for _ in range(100):
                tasks.add_task(ran.append, number)

        await asyncio.gather(*(asyncio.to_thread(add, number) for number in range(8)))
        await tasks.arelease()

    asyncio.run(main())
    assert sorted(ran) == [number for number in range(8) for _ in range(100)]


def test_a_closed_queue_takes_tasks_of_its_own_tasks_alone() -> None:
    log: list[str] = []

    async def main() -> None:
        tasks = LiveTasks()

        async def adding() -> None:
            log.append("adding")
            tasks.add_task(log.append, "added")

        tasks.add_task(adding)
        tasks.end()
        with pytest.raises(QueueClosedError):
            tasks.add_task(print)
        await tasks.arelease()
        with pytest.raises(QueueClosedError):
            tasks.add_task(print)

    asyncio.run(main())
    assert log == ["adding", "added"]


def test_a_failure_discards_nothing() -> None:
    log: list[str] = []

    async def main() -> None:
        tasks = LiveTasks()
        tasks.add_task(log.append, "task")
        tasks.discard(ValueError())
        tasks.close(ValueError())
        await tasks.arelease()

    asyncio.run(main())
    assert log == ["task"]


@pytest.mark.parametrize("on_full", ["run", "reject"])
def test_what_waits_is_bounded(on_full: str) -> None:
    runtime = Runtime(Settings(max_pending=3, on_full=on_full))  # type: ignore[arg-type]
    ran: list[int] = []

    async def main() -> None:
        gate, begun = asyncio.Event(), asyncio.Event()

        async def blocking() -> None:
            begun.set()
            await gate.wait()

        tasks = LiveTasks(runtime=runtime)
        tasks.add_task(blocking)
        await begun.wait()
        with pytest.raises(QueueFullError, match="max_pending"):
            for number in range(10):
                tasks.add_task(ran.append, number)
        gate.set()
        await tasks.arelease()

    asyncio.run(main())
    assert ran == ([0, 1, 2] if on_full == "run" else [0, 1])
    assert runtime.in_flight.in_use == 0


def test_without_an_event_loop_its_tasks_run_in_threads() -> None:
    ran = threading.Event()

    async def task() -> None:
        ran.set()

    tasks = LiveTasks()
    tasks.add_task(task)
    assert ran.wait(10)
    tasks.end()


def test_options_start_their_tasks_as_well() -> None:
    log: list[str] = []
    tasks = LiveTasks()
    tasks.options(name="named").options(always=True).add_task(log.append, "named")
    tasks.end()
    assert tasks.runtime.drain(10) == []
    assert log == ["named"]


def test_what_is_refused_after_the_end_takes_no_room() -> None:
    tasks = LiveTasks(runtime=Runtime())
    tasks.end()
    with pytest.raises(QueueClosedError):
        tasks.options(name="late").add_task(print)
    with pytest.raises(QueueClosedError):
        tasks.add_task(print)
    assert tasks.runtime.in_flight.in_use == 0


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_after_a_drain_that_gave_up_it_goes_on_as_before(
    is_forgotten: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is added to a queue in which only what was abandoned runs is waited for, and named."""
    monkeypatch.setattr(drainer, "_CANCEL_GRACE", 0.0)
    log: list[str] = []
    told: list[tuple[str, str]] = []
    runtime = Runtime(Settings(on_event=lambda event: told.append((event.name, event.kind))))
    tasks, held = LiveTasks(runtime=runtime), Held()

    def fails_at_first() -> None:
        log.append("attempt")
        if len(log) == 1:
            raise OSError

    tasks.options(name="held").add_task(held.task)
    reached(held.started)
    assert runtime.drain(0.0) == ["held"]
    if is_forgotten:
        assert runtime.drain(0.0) == []
    tasks.options(name="named").add_task(print)
    assert runtime.drain(0.0) == ["named"]
    tasks.options(name="lasting", retries=1, backoff=0).add_task(fails_at_first)
    held.go_on.set()
    tasks.end()
    assert runtime.drain(PATIENCE) == []
    assert log == ["attempt", "attempt"]
    outcomes = [each for each in told if each[1] not in {"added", "started", "retrying"}]
    assert outcomes == [("held", "abandoned"), ("named", "abandoned"), ("lasting", "succeeded")]
    assert (runtime.in_flight.in_use, runtime.in_flight.live()) == (0, [])


def test_a_response_waits_for_no_capacity_of_a_connection_that_lasts(runtime: Runtime) -> None:
    queue = LiveTasks(runtime=runtime)
    assert queue.take_capacity() is True
    queue.end()
