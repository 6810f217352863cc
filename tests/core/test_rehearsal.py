"""What the core does while somebody looks on, and that it does none of it otherwise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from bgadapters import BackgroundTasks, NotPortableError, QueueClosedError
from bgadapters.adapters import Runtime, Task, TaskEvent
from bgadapters.core import drain, rehearsal
from tests.core.ways import PATIENCE, Log, MakeRuntime


class Audience:
    """Notes what it hears; keeps the tasks if it is told to."""

    def __init__(self) -> None:
        self.strict_portable = False
        self.is_greedy = False
        self.heard: list[str] = []
        self.kept: list[Task] = []

    def added(self, queue: BackgroundTasks, task: Task) -> None:
        self.heard.append(f"added {task.args}")

    def told(self, event: TaskEvent) -> None:
        self.heard.append(f"{event.kind} {event.task.args}")

    def keeps(self, queue: BackgroundTasks, tasks: Sequence[Task]) -> bool:
        if self.is_greedy:
            self.kept += tasks
        return self.is_greedy


@pytest.fixture
def audience() -> Iterator[Audience]:
    looking_on = Audience()
    with observed_by(looking_on):
        yield looking_on
    assert mode.active is mode.SERVING


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
    audience: Audience, queue: BackgroundTasks, note: Note, anote: ANote, log: Log
) -> None:
    add(queue, note, anote)
    queue.release()
    assert log == [(number, threading.current_thread()) for number in (1, 2, 3)]
    heard = ["started", "succeeded"]
    assert audience.heard == [f"added ({number},)" for number in (1, 2, 3)] + [
        f"{what} ({number},)" for number in (1, 2, 3) for what in heard
    ]


def test_an_audience_may_ask_for_what_is_portable(
    audience: Audience, queue: BackgroundTasks, note: Note
) -> None:
    audience.strict_portable = True
    with pytest.raises(NotPortableError):
        queue.add_task(note, 1)


def test_tasks_that_are_kept_take_no_place_and_are_put_back(
    audience: Audience, make_runtime: MakeRuntime, note: Note, anote: ANote, log: Log
) -> None:
    runtime = make_runtime(max_pending=3, on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    audience.is_greedy = True
    add(queue, note, anote)
    assert runtime.in_flight.in_use == 3
    queue.release()
    assert (log, runtime.in_flight.in_use, queue.is_running) == ([], 0, False)

    def last() -> None:
        assert not queue.put_back(audience.kept[2:])  # it is running: no need to start it
        note("last")

    assert queue.put_back([*audience.kept[:2]])
    runtime.start(queue)
    queue.put_back(
        [Task(last, (), None, audience.kept[0].context, audience.kept[0].options, False)]
    )
    runtime.start(queue)
    assert [what for what, _ in log] == [1, 2, "last", 3]
    queue.release()
    assert len(log) == 4


def test_what_is_kept_can_be_awaited(
    audience: Audience, queue: BackgroundTasks, note: Note, anote: ANote, log: Log
) -> None:
    audience.is_greedy = True
    add(queue, note, anote)
    queue.release()

    async def main() -> None:
        queue.put_back(audience.kept)
        queue.runtime.spawn(queue)
        assert await queue.runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    assert [what for what, _ in log] == [1, 2, 3]


def test_an_open_queue_can_be_ended_without_a_word(make_runtime: MakeRuntime, note: Note) -> None:
    runtime = make_runtime(on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(note, 1)
    assert [task.args for task in queue.take_all()] == [(1,)]
    assert (len(queue), runtime.in_flight.in_use) == (0, 0)
    assert queue.take_all() == []
    with pytest.raises(QueueClosedError):
        queue.add_task(note, 2)


def test_a_nested_turn_does_not_wait_for_the_outer_one(
    audience: Audience, queue: BackgroundTasks, anote: ANote, log: Log
) -> None:
    """An async task waits for a thread that has async tasks of its own."""

    def inner() -> None:
        with BackgroundTasks(runtime=queue.runtime) as other:
            other.add_task(anote, "inner")

    queue.add_task(asyncio.to_thread, inner)
    queue.release()
    assert [what for what, _ in log] == ["inner"]


def test_an_audience_is_replaced_for_a_block_and_forgotten_in_a_child(audience: Audience) -> None:
    other = Audience()
    with observed_by(other):
        assert rehearsal.audience is other
    assert rehearsal.audience is audience
    rehearsal._forget()
    assert mode.active is mode.SERVING


def test_a_signal_ends_a_run_of_tests_at_once(runtime: Runtime, note: Note) -> None:
    """Otherwise it would be an exception in one of them, and the others would go on."""
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(note, "done")
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert drain.is_at_stake()
    with observed_by(Audience()):
        assert not drain.is_at_stake()


def test_blocks_need_not_end_in_the_order_in_which_they_began() -> None:
    outlasted, outlasting, outermost = (Audience() for _ in range(3))
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(observed_by(outlasted))
        second.enter_context(observed_by(outlasting))
        first.close()
        assert rehearsal.audience is outlasting
        with observed_by(outermost, as_outermost=True):
            assert rehearsal.audience is outlasting
            second.close()
            assert rehearsal.audience is outermost
    assert mode.active is mode.SERVING


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
def bridged(here: Here, make_runtime: MakeRuntime) -> Runtime:
    runtime = make_runtime()
    runtime.bridge = rehearsal.Bridge(here.to_async, here.to_sync)
    return runtime


def test_a_bridge_keeps_tasks_to_the_thread(
    audience: Audience, bridged: Runtime, here: Here, note: Note, anote: ANote, log: Log
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


def test_without_an_audience_no_bridge_is_used(
    bridged: Runtime, here: Here, note: Note, anote: ANote, log: Log
) -> None:
    with BackgroundTasks(runtime=bridged) as queue:
        add(queue, note, anote)
    assert bridged.drain(PATIENCE) == []
    assert [what for what, _ in log] == [1, 2, 3]
    assert here.passed == []
