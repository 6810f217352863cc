"""Tasks that wait for more than their response."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from bgadapters.core.gate import Gate

from bgadapters import BackgroundTasks, QueueClosedError
from bgadapters.adapters import Runtime, Settings
from tests.core.ways import Log


class Gates:
    """Gives the tasks that are added the gates that are set."""

    def __init__(self) -> None:
        self.numbers: tuple[int, ...] = ()
        self.made: dict[int, Gate] = {}

    def __call__(self, queue: BackgroundTasks) -> list[Gate]:
        return [self.made.setdefault(number, Gate(queue)) for number in self.numbers]


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def gated(gates: Gates) -> Runtime:
    return Runtime(gates_of=gates)


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "bgadapters")
    return lambda: [record.getMessage() for record in caplog.records]


def test_only_tasks_whose_gates_have_all_opened_run(
    gated: Runtime, gates: Gates, log: Log, warned: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=gated)
    for numbers in ((), (1,), (2,), (1, 2), (3,), ()):
        gates.numbers = numbers
        queue.options(name=str(numbers)).add_task(log.append, numbers)
    assert len(queue.gates) == 3
    gates.made[1].decide(True)
    gates.made[2].decide(False)
    gates.made[2].decide(True)  # too late
    gates.made[3].decide(True)
    queue.release()
    gated.drain()
    assert log == [(), (1,), (3,), ()]
    assert warned() == ["2 background task(s) discarded, their gate was shut: (2,), (1, 2)"]
    assert queue.gates == ()


def test_a_queue_waits_for_the_last_decision_and_keeps_itself_alive(
    gated: Runtime, gates: Gates, log: Log
) -> None:
    queue = BackgroundTasks(runtime=gated)
    for numbers in ((1,), (2,)):
        gates.numbers = numbers
        queue.add_task(log.append, numbers)
    queue.release()
    asyncio.run(queue.arelease())
    assert "waiting for a commit" in repr(queue)
    with pytest.raises(QueueClosedError, match="waiting for a commit"):
        queue.add_task(log.append, "late")
    alive = weakref.ref(queue)
    del queue
    gc.collect()
    gates.made[1].decide(True)
    assert alive() is not None
    assert gated.drain() == []
    assert log == []
    gates.made[2].decide(True)
    gated.drain()
    assert log == [(1,), (2,)]


def test_a_queue_of_many_gates_looks_at_each_a_few_times(log: Log) -> None:
    """In whatever order they decide: an import of many rows has a savepoint for each."""
    number, looks = 200, 0

    class Counted(Gate):
        @property
        def opened(self) -> bool | None:
            nonlocal looks
            looks += 1
            return super().opened

    gates: list[Gate] = []

    def one_more(queue: BackgroundTasks) -> list[Gate]:
        gates.append(Counted(queue))
        return gates[-1:]

    queue = BackgroundTasks(runtime=Runtime(gates_of=one_more))
    for each in range(number):
        queue.add_task(log.append, each)
    queue.release()
    for gate in gates:
        gate.decide(True)
    queue.runtime.drain()
    assert log == list(range(number))
    assert looks < 5 * number


def test_nothing_is_left_to_run(gated: Runtime, gates: Gates, log: Log) -> None:
    queue = BackgroundTasks(runtime=gated)
    gates.numbers = (1,)
    queue.add_task(log.append, "x")
    queue.release()
    gates.made[1].decide(False)
    assert "finished" in repr(queue)
    assert gated.backlog.live() == []


def test_a_gate_does_not_keep_a_queue_that_has_ended(gated: Runtime, gates: Gates) -> None:
    queue = BackgroundTasks(runtime=gated)
    gates.numbers = (1,)
    queue.add_task(print)
    gates.made[1].decide(False)
    queue.release()
    ended = weakref.ref(queue)
    del queue
    gc.collect()
    assert ended() is None


def test_always_and_off(gates: Gates, log: Log) -> None:
    runtime = Runtime(gates_of=gates)
    gates.numbers = (1,)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(always=True).add_task(log.append, "always")
    gates.made[1].decide(False)
    queue.options(on_commit=False).add_task(log.append, "off")
    queue.release()
    runtime.drain()
    assert log == ["always", "off"]
    assert Runtime(Settings(on_commit=False), gates_of=gates).gates_of is None


def test_places_are_given_back(gates: Gates, log: Log) -> None:
    runtime = Runtime(Settings(on_full="reject", max_pending=2), gates_of=gates)
    gates.numbers = (1,)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "x")
    queue.add_task(log.append, "x")
    gates.made[1].decide(False)
    queue.release()
    assert runtime.in_flight.in_use == 0


@pytest.mark.parametrize("opened", [True, False, None])
def test_tasks_that_a_task_adds(
    gated: Runtime, gates: Gates, log: Log, warned: Callable[[], list[str]], opened: bool | None
) -> None:
    """The gate of such a task has to have opened when its turn comes."""
    queue: Any = BackgroundTasks(runtime=gated)

    def task() -> None:
        gates.numbers = (1,)
        queue.options(name="one").add_task(log.append, "one")
        gates.numbers = ()
        queue.add_task(log.append, "two")
        if opened is not None:
            gates.made[1].decide(opened)

    queue.add_task(task)
    queue.release()
    gated.drain()
    assert log == (["one", "two"] if opened else ["two"])
    assert len(warned()) == (0 if opened else 1)


def test_a_decision_that_comes_in_the_middle_of_the_release(log: Log) -> None:
    """Made in another thread, between the question whether there is one and the wait for it."""

    class DecidedMeanwhile(Gate):
        @property
        def opened(self) -> bool | None:
            known = super().opened
            if known is None:  # the answer is given, and outdated before it is used
                thread = threading.Thread(target=self.decide, args=(True,))
                thread.start()
                while self._opened is None:
                    pass
                threads.append(thread)
            return known

    threads: list[threading.Thread] = []
    runtime = Runtime(gates_of=lambda queue: [DecidedMeanwhile(queue)])
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(log.append, "it")
    queue.release()
    for thread in threads:
        thread.join()
    assert len(threads) == 1
    runtime.drain()
    assert log == ["it"]
