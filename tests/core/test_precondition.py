"""Tasks that wait for more than their response."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bgadapters import BackgroundTasks, QueueClosedError
from bgadapters.adapters import Batch, FrameworkHooks, Precondition, Runtime, Settings
from bgadapters.core.process.shutdown import applications
from tests.core.ways import PATIENCE, Log, as_coroutine_function


class Preconditions:
    """Gives the tasks that are added the preconditions that are set."""

    def __init__(self) -> None:
        self.numbers: tuple[int, ...] = ()
        self.made: dict[int, Precondition] = {}

    def __call__(self, batch: Batch) -> list[Precondition]:
        return [self.made.setdefault(number, Precondition()) for number in self.numbers]


@pytest.fixture
def preconditions() -> Preconditions:
    return Preconditions()


@pytest.fixture
def conditional(preconditions: Preconditions) -> Runtime:
    return Runtime(hooks=FrameworkHooks(preconditions=preconditions))


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "bgadapters")
    return lambda: [record.getMessage() for record in caplog.records]


def test_only_tasks_whose_preconditions_have_all_opened_run(
    conditional: Runtime, preconditions: Preconditions, log: Log, warned: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=conditional)
    for numbers in ((), (1,), (2,), (1, 2), (3,), ()):
        preconditions.numbers = numbers
        queue.options(name=str(numbers)).add_task(log.append, numbers)
    assert len(queue.batch.preconditions) == 3
    preconditions.made[1].resolve(True)
    preconditions.made[2].resolve(False)
    preconditions.made[2].resolve(True)  # too late
    preconditions.made[3].resolve(True)
    queue.release()
    conditional.drain()
    assert log == [(), (1,), (3,), ()]
    assert warned() == ["2 background task(s) discarded, their precondition failed: (2,), (1, 2)"]
    assert queue.batch.preconditions == []


def test_a_queue_waits_for_the_last_resolution_and_keeps_itself_alive(
    conditional: Runtime, preconditions: Preconditions, log: Log
) -> None:
    queue = BackgroundTasks(runtime=conditional)
    for numbers in ((1,), (2,)):
        preconditions.numbers = numbers
        queue.add_task(log.append, numbers)
    queue.release()
    asyncio.run(queue.arelease())
    assert "waiting for a commit" in repr(queue)
    with pytest.raises(QueueClosedError, match="waiting for a commit"):
        queue.add_task(log.append, "late")
    alive = weakref.ref(queue)
    del queue
    gc.collect()
    preconditions.made[1].resolve(True)
    assert alive() is not None
    assert log == []
    preconditions.made[2].resolve(True)
    conditional.drain()
    assert log == [(1,), (2,)]


def test_a_drain_waits_for_what_is_held(
    conditional: Runtime, preconditions: Preconditions, log: Log
) -> None:
    """And then for its tasks. The process has work as long as it is held."""
    queue = BackgroundTasks(runtime=conditional)
    preconditions.numbers = (1,)
    queue.add_task(log.append, "ran")
    assert not conditional.has_work()
    queue.release()
    assert conditional.has_work()
    assert conditional in applications()
    assert conditional.in_flight.in_use == 0
    with ThreadPoolExecutor(2) as others:
        drains = [
            others.submit(conditional.drain),
            others.submit(lambda: asyncio.run(conditional.adrain())),
        ]
        while not conditional.in_flight._waiting:
            time.sleep(0.001)
        preconditions.made[1].resolve(True)
        assert [drain.result(PATIENCE) for drain in drains] == [[], []]
    assert log == ["ran"]


def test_a_drain_names_what_is_held_for_too_long(
    conditional: Runtime,
    preconditions: Preconditions,
    log: Log,
    warned: Callable[[], list[str]],
) -> None:
    """What it waits for may still come; then nothing is left to run."""
    queue = BackgroundTasks(runtime=conditional)
    preconditions.numbers = (1,)
    queue.options(name="held").add_task(log.append, "x")
    queue.release()
    assert conditional.drain(0.01) == ["held"]
    preconditions.made[1].resolve(True)
    assert conditional.drain() == []
    assert not conditional.has_work()
    assert log == []
    assert warned() == [
        "1 background task(s) abandoned, not finished within the drain timeout of 0.01 s: held"
    ]


class Mine(Precondition):
    """Of a transaction in the thread of the test."""

    def is_up_to_this_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()


def test_a_drain_does_not_wait_for_the_thread_that_it_blocks(log: Log) -> None:
    """Others do. At the end of the process that thread ends too: what it holds is named."""
    mine = Mine()
    runtime = Runtime(hooks=FrameworkHooks(preconditions=lambda _: [mine]))
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(name="mine").add_task(log.append, "x")
    assert runtime.drain() == []
    assert runtime.has_work()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(runtime.drain)
        while not runtime.in_flight._waiting:
            time.sleep(0.001)
        assert runtime.drain_at_exit(1.0) == ["mine"]
        runtime.in_flight.forget_abandoned()
        assert waiting.result(PATIENCE) == []
    mine.resolve(True)
    assert log == []


def test_a_queue_that_is_released_as_its_precondition_is_resolved(log: Log) -> None:
    """Whoever comes first, nothing is left in flight."""
    for _ in range(200):
        made = Preconditions()
        made.numbers = (1,)
        runtime = Runtime(hooks=FrameworkHooks(preconditions=made))
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(log.append, 1)
        resolving = threading.Thread(target=made.made[1].resolve, args=(True,))
        resolving.start()
        queue.release()
        queue.release()
        resolving.join()
        assert runtime.drain() == []
        assert runtime.in_flight.live() == []
    assert len(log) == 200


@pytest.mark.parametrize("fulfilled", [True, False])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_task_adds_one_whose_precondition_is_not_resolved_when_its_turn_comes(
    preconditions: Preconditions,
    log: Log,
    warned: Callable[[], list[str]],
    *,
    is_async: bool,
    fulfilled: bool,
) -> None:
    """Nothing is known of it yet. The tasks after it do not wait with it."""
    settings = Settings(max_pending=10, on_full="reject")
    runtime = Runtime(settings, FrameworkHooks(preconditions=preconditions))
    queue = BackgroundTasks(runtime=runtime)
    second_ran = threading.Event()

    def first() -> None:
        preconditions.numbers = (1,)
        queue.options(name="waits").add_task(as_asked(log.append, is_async=is_async), "waited")
        preconditions.numbers = ()
        queue.add_task(as_asked(second, is_async=is_async))

    def second() -> None:
        log.append("second")
        second_ran.set()

    queue.add_task(first)
    queue.release()
    assert second_ran.wait(PATIENCE)
    assert log == ["second"]
    assert runtime.has_work()
    preconditions.made[1].resolve(fulfilled)
    assert runtime.drain() == []
    assert log == (["second", "waited"] if fulfilled else ["second"])
    assert len(warned()) == (not fulfilled)
    assert (runtime.in_flight.in_use, runtime.in_flight.live()) == (0, [])


def as_asked(func: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """The same task, of the kind that is asked for."""
    return as_coroutine_function(func) if is_async else func


def test_a_queue_of_many_preconditions_looks_at_each_a_few_times(log: Log) -> None:
    """In whatever order they decide: an import of many rows has a savepoint for each."""
    number, looks = 200, 0

    class Counted(Precondition):
        @property
        def fulfilled(self) -> bool | None:
            nonlocal looks
            looks += 1
            return super().fulfilled

    preconditions: list[Precondition] = []

    def one_more(batch: Batch) -> list[Precondition]:
        preconditions.append(Counted())
        return preconditions[-1:]

    queue = BackgroundTasks(runtime=Runtime(hooks=FrameworkHooks(preconditions=one_more)))
    for each in range(number):
        queue.add_task(log.append, each)
    queue.release()
    for each_one in preconditions:
        each_one.resolve(True)
    queue.runtime.drain()
    assert log == list(range(number))
    assert looks < 5 * number


def test_nothing_is_left_to_run(
    conditional: Runtime, preconditions: Preconditions, log: Log
) -> None:
    queue = BackgroundTasks(runtime=conditional)
    preconditions.numbers = (1,)
    queue.add_task(log.append, "x")
    queue.release()
    preconditions.made[1].resolve(False)
    assert "finished" in repr(queue)
    assert conditional.in_flight.live() == []


def test_a_precondition_does_not_keep_a_queue_that_has_ended(
    conditional: Runtime, preconditions: Preconditions
) -> None:
    queue = BackgroundTasks(runtime=conditional)
    preconditions.numbers = (1,)
    queue.add_task(print)
    preconditions.made[1].resolve(False)
    queue.release()
    ended = weakref.ref(queue)
    del queue
    gc.collect()
    assert ended() is None


def test_always_and_off(preconditions: Preconditions, log: Log) -> None:
    runtime = Runtime(hooks=FrameworkHooks(preconditions=preconditions))
    preconditions.numbers = (1,)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(always=True).add_task(log.append, "always")
    preconditions.made[1].resolve(False)
    queue.options(on_commit=False).add_task(log.append, "off")
    queue.release()
    runtime.drain()
    assert log == ["always", "off"]
    assert (
        Runtime(
            Settings(on_commit=False), hooks=FrameworkHooks(preconditions=preconditions)
        ).hooks.preconditions
        is None
    )


def test_places_are_given_back(preconditions: Preconditions, log: Log) -> None:
    runtime = Runtime(
        Settings(on_full="reject", max_pending=2), hooks=FrameworkHooks(preconditions=preconditions)
    )
    preconditions.numbers = (1,)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "x")
    queue.add_task(log.append, "x")
    preconditions.made[1].resolve(False)
    queue.release()
    assert runtime.in_flight.in_use == 0


@pytest.mark.parametrize("opened", [True, False, None])
def test_tasks_that_a_task_adds(
    conditional: Runtime,
    preconditions: Preconditions,
    log: Log,
    warned: Callable[[], list[str]],
    opened: bool | None,
) -> None:
    """Where it is not known when its turn comes, a drain waits for it and then gives up."""
    queue: Any = BackgroundTasks(runtime=conditional)
    two_ran = threading.Event()

    def task() -> None:
        preconditions.numbers = (1,)
        queue.options(name="one").add_task(log.append, "one")
        preconditions.numbers = ()
        queue.add_task(two)
        if opened is not None:
            preconditions.made[1].resolve(opened)

    def two() -> None:
        log.append("two")
        two_ran.set()

    queue.add_task(task)
    queue.release()
    assert two_ran.wait(PATIENCE)
    timeout = 0.01 if opened is None else PATIENCE
    assert conditional.drain(timeout) == (["one"] if opened is None else [])
    assert log == (["one", "two"] if opened else ["two"])
    assert len(warned()) == (0 if opened else 1)


def test_a_resolution_that_comes_in_the_middle_of_the_release(log: Log) -> None:
    """Made in another thread, between the question whether there is one and the wait for it."""

    class ResolvedMeanwhile(Precondition):
        @property
        def fulfilled(self) -> bool | None:
            known = super().fulfilled
            if known is None:  # the answer is given, and outdated before it is used
                thread = threading.Thread(target=self.resolve, args=(True,))
                thread.start()
                while self._fulfilled is None:
                    pass
                threads.append(thread)
            return known

    threads: list[threading.Thread] = []
    hooks = FrameworkHooks(preconditions=lambda batch: [ResolvedMeanwhile()])
    runtime = Runtime(hooks=hooks)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "it")
    queue.release()
    for thread in threads:
        thread.join()
    assert len(threads) == 1
    runtime.drain()
    assert log == ["it"]


def test_what_a_drain_gives_up_while_it_is_held_gives_its_place_back() -> None:
    made = Preconditions()
    runtime = Runtime(Settings(on_full="reject", max_pending=1), FrameworkHooks(preconditions=made))
    made.numbers = (1,)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(name="held").add_task(print)
    queue.release()
    assert runtime.drain(0.0) == ["held"]
    made.made[1].resolve(True)
    assert runtime.in_flight.in_use == 0
