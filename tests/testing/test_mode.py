"""How tasks run while an observer records them, and that they run as ever otherwise."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bgadapters import BackgroundTasks, NotPortableError, QueueClosedError
from bgadapters.adapters import Batch, Bridge, FrameworkHooks, Runtime, Task, TaskEvent, mode
from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.model.mode import SERVING
from bgadapters.core.process.shutdown import has_pending_work
from bgadapters.testing.mode import observed_by
from tests.core.ways import PATIENCE, Log, MakeRuntime


class Recording:
    """Notes what it is told; keeps the tasks from running if that is asked of it."""

    def __init__(self) -> None:
        self.strict_portable = False
        self.real_time = self.keeps_tasks = False
        self.is_greedy = False
        self.heard: list[str] = []
        self.kept: list[Task] = []

    def added(self, batch: Batch, task: Task, scheduler: Scheduler) -> None:
        self.heard.append(f"added {task.args}")

    def on_event(self, event: TaskEvent) -> None:
        self.heard.append(f"{event.kind} {event.task.args}")

    def intercepts(self, batch: Batch, scheduler: Scheduler) -> bool:
        if self.is_greedy:
            effects = batch.intercept()
            scheduler.execution.give_back(effects)
            self.kept += effects.discarded
        return self.is_greedy


@pytest.fixture
def observer() -> Iterator[Recording]:
    recording = Recording()
    with observed_by(recording):
        yield recording
    assert mode.active is SERVING


Note = Callable[[object], None]
ANote = Callable[[object], Awaitable[None]]


@pytest.fixture
def note(log: Log) -> Note:
    return lambda what: log.append((what, threading.current_thread()))


@pytest.fixture
def anote(note: Note) -> ANote:
    async def anote(what: object) -> None:
        await asyncio.sleep(0)
        note(what)

    return anote


def add(queue: BackgroundTasks, note: Note, anote: ANote) -> None:
    queue.add_task(note, 1)
    queue.add_task(anote, 2)
    queue.add_task(note, 3)


def test_tasks_run_in_the_thread_that_releases(
    observer: Recording, queue: BackgroundTasks, note: Note, anote: ANote, log: Log
) -> None:
    add(queue, note, anote)
    queue.release()
    assert log == [(number, threading.current_thread()) for number in (1, 2, 3)]
    heard = ["started", "succeeded"]
    assert observer.heard == [f"added ({number},)" for number in (1, 2, 3)] + [
        f"{what} ({number},)" for number in (1, 2, 3) for what in heard
    ]


def test_an_observer_may_ask_for_what_is_portable(
    observer: Recording, queue: BackgroundTasks, note: Note
) -> None:
    observer.strict_portable = True
    with pytest.raises(NotPortableError):
        queue.add_task(note, 1)


def test_tasks_that_are_kept_take_no_capacity_and_are_put_back(
    observer: Recording, make_runtime: MakeRuntime, note: Note, anote: ANote, log: Log
) -> None:
    runtime = make_runtime(max_pending=3, on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    observer.is_greedy = True
    add(queue, note, anote)
    assert runtime.in_flight.in_use == 3
    queue.release()
    assert (log, runtime.in_flight.in_use, queue.batch.is_running) == ([], 0, False)

    observer.is_greedy = False

    def last() -> None:
        assert not queue.batch.put_back(observer.kept[2:])  # it is running: no need to start it
        note("last")

    assert queue.batch.put_back([*observer.kept[:2]])
    runtime.scheduler.start(queue.batch)
    queue.batch.put_back([Task(last, (), observer.kept[0].context)])
    runtime.scheduler.start(queue.batch)
    assert [what for what, _ in log] == [1, 2, "last", 3]
    queue.release()
    assert len(log) == 4


def test_what_is_kept_can_be_awaited(
    observer: Recording, queue: BackgroundTasks, note: Note, anote: ANote, log: Log
) -> None:
    observer.is_greedy = True
    add(queue, note, anote)
    queue.release()

    async def main() -> None:
        queue.batch.put_back(observer.kept)
        queue.runtime.scheduler.enter(queue.batch)
        queue.runtime.scheduler.resume(queue.batch)
        assert await queue.runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    assert [what for what, _ in log] == [1, 2, 3]


def test_an_open_queue_can_be_ended_without_a_word(make_runtime: MakeRuntime, note: Note) -> None:
    runtime = make_runtime(on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(note, 1)
    removed = queue.batch.remove()
    runtime.scheduler.execution.give_back(removed)
    assert [task.args for task in removed.discarded] == [(1,)]
    assert (len(queue), runtime.in_flight.in_use) == (0, 0)
    assert queue.batch.remove().discarded == ()
    with pytest.raises(QueueClosedError):
        queue.add_task(note, 2)


def test_a_nested_turn_does_not_wait_for_the_outer_one(
    observer: Recording, queue: BackgroundTasks, anote: ANote, log: Log
) -> None:
    """An async task waits for a thread that has async tasks of its own."""

    def inner() -> None:
        with BackgroundTasks(runtime=queue.runtime) as other:
            other.add_task(anote, "inner")

    queue.add_task(asyncio.to_thread, inner)
    queue.release()
    assert [what for what, _ in log] == ["inner"]


def test_an_observer_is_replaced_for_a_block_and_forgotten_in_a_child(observer: Recording) -> None:
    outer = mode.active
    with observed_by(Recording()):
        assert mode.active not in {outer, SERVING}
        child = os.fork()
        if child == 0:
            os._exit(mode.active is not SERVING)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mode.active is outer


def test_a_signal_ends_a_run_of_tests_at_once(runtime: Runtime, note: Note) -> None:
    """Otherwise it would be an exception in one of them, and the others would go on."""
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(note, "done")
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert has_pending_work()
    with observed_by(Recording()):
        assert not has_pending_work()


def test_blocks_need_not_end_in_the_order_in_which_they_began(runtime: Runtime, note: Note) -> None:
    outlasted, outlasting, outermost = recordings = [Recording() for _ in range(3)]

    def tell() -> Recording:
        """Return the one that is told of a task."""
        for each in recordings:
            each.heard.clear()
        with BackgroundTasks(runtime=runtime) as queue:
            queue.add_task(note, 1)
        (told,) = [each for each in recordings if each.heard]
        return told

    with ExitStack() as first, ExitStack() as second:
        first.enter_context(observed_by(outlasted))
        second.enter_context(observed_by(outlasting))
        first.close()
        assert tell() is outlasting
        with observed_by(outermost, as_outermost=True):
            assert tell() is outlasting
            second.close()
            assert tell() is outermost
    assert mode.active is SERVING


class Here:
    """A bridge to one thread, which notes what passes."""

    def __init__(self) -> None:
        self.passed: list[str] = []

    def to_async(self, func: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def awaited(*args: Any) -> Any:
            self.passed.append("to_async")
            return func(*args)

        return awaited

    def to_sync(self, func: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        async def main(*args: Any) -> Any:
            return await func(*args)

        def blocking(*args: Any) -> Any:
            self.passed.append("to_sync")
            return asyncio.run(main(*args))

        return blocking


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def bridged(here: Here) -> Runtime:
    return Runtime(hooks=FrameworkHooks(bridge=Bridge(here.to_async, here.to_sync)))


def test_a_bridge_keeps_tasks_to_the_thread(
    observer: Recording, bridged: Runtime, here: Here, note: Note, anote: ANote, log: Log
) -> None:
    queue = BackgroundTasks(runtime=bridged)
    add(queue, note, anote)
    queue.release()
    assert here.passed == ["to_sync"]

    async def main() -> None:
        async with BackgroundTasks(runtime=bridged) as other:
            add(other, note, anote)
            other.add_task(lambda: anote(4))

    asyncio.run(main())
    assert set(here.passed[1:]) == {"to_async"}
    assert log == [(number, threading.current_thread()) for number in (1, 2, 3, 1, 2, 3, 4)]


def test_without_an_observer_no_bridge_is_used(
    bridged: Runtime, here: Here, note: Note, anote: ANote, log: Log
) -> None:
    with BackgroundTasks(runtime=bridged) as queue:
        add(queue, note, anote)
    assert bridged.drain(PATIENCE) == []
    assert [what for what, _ in log] == [1, 2, 3]
    assert here.passed == []
