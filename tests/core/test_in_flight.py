"""The bound on what waits: exact, and whoever waits for it hears of every change, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from bgadapters.core.drivers import in_flight as in_flights
from bgadapters.core.drivers.in_flight import InFlight, Patience
from bgadapters.core.model.batch import Batch
from tests.core.ways import Log, reached


@pytest.fixture
def batch() -> Batch:
    return Batch()


@pytest.mark.parametrize(
    ("taken", "asked", "fits"),
    [(0, 2, True), (1, 1, True), (2, 1, False), (1, 2, False), (0, 9, True), (0, 0, True)],
)
def test_the_bound_is_exact_and_a_larger_batch_gets_in_alone(
    taken: int, asked: int, fits: bool
) -> None:
    in_flight = InFlight(limit=2)
    in_flight.reserve(taken)
    assert in_flight.try_reserve(asked) is fits
    assert in_flight.in_use == taken + (asked if fits else 0)


@pytest.mark.parametrize("change", [InFlight.free, "leave"], ids=["free", "leave"])
def test_whoever_waits_is_woken_by_the_change_that_makes_room_and_by_no_other(
    change: Callable[[InFlight, int], None] | str, batch: Batch, log: Log
) -> None:
    in_flight = InFlight(limit=1)
    in_flight.enter(batch)
    in_flight.reserve(2)
    assert not in_flight.try_reserve(1, lambda: log.append("room"))
    assert not in_flight.is_idle(lambda: log.append("idle"))
    assert log == []
    for _ in range(2):
        if isinstance(change, str):
            in_flight.leave(batch, 1)
        else:
            change(in_flight, 1)
    assert log == ["idle", "room"]
    assert in_flight.in_use == 0


def test_a_thread_waits_until_nothing_is_left(batch: Batch, log: Log) -> None:
    in_flight = InFlight(limit=1)
    in_flight.enter(batch)
    assert not in_flight.wait_idle(0)
    in_flight.leave(batch, 0)
    assert in_flight.wait_idle(0)
    assert in_flight.is_idle(lambda: log.append("never"))
    assert log == []


def test_a_thread_waits_for_a_condition_as_long_as_something_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_flights, "_PATIENCE", 0.01)
    in_flight, batch = InFlight(limit=1), Batch()
    in_flight.enter(batch)
    asked: Log = []

    def condition() -> bool:
        """Another task of the batch runs whenever it is asked, then none any more."""
        asked.append(None)
        if len(asked) < 5:
            in_flight.free(0)
        return False

    assert not in_flight.wait_for(condition)
    assert in_flight.wait_for(lambda: True)
    progress = iter([1, 2, 3, 3])
    monkeypatch.setattr(in_flight, "progress", lambda: next(progress))
    assert not in_flight.wait_for(lambda: False)
    assert next(progress, None) is None


def test_there_is_progress_when_another_task_runs_or_one_has_ended(
    monkeypatch: pytest.MonkeyPatch, batch: Batch
) -> None:
    monkeypatch.setattr(in_flights, "_PATIENCE", 0.0)
    in_flight = InFlight(limit=1)
    in_flight.enter(batch)
    seen = [in_flight.progress(), in_flight.progress()]
    assert seen[0] == seen[1]
    batch.running, batch.started = object(), 1.0  # type: ignore[assignment]
    seen.append(in_flight.progress())
    batch.started = 2.0
    seen.append(in_flight.progress())
    in_flight.leave(batch, 0, 1)
    seen.append(in_flight.progress())
    assert in_flight.progress() == seen[-1]
    assert len(set(seen)) == 4
    in_flight.leave(Batch(), 0, 1)
    monkeypatch.setattr(in_flights, "_PATIENCE", 1e9)
    assert in_flight.progress() == seen[-1] + 1
    in_flight.leave(Batch(), 0, 1)
    assert in_flight.progress() == seen[-1] + 1  # it looks only so often


def held_back(in_flight: InFlight, *counts: int) -> tuple[Log, list[Callable[[], object]]]:
    """Those who need so much, of whom none gets in: the log of who is called, and how."""
    called: Log = []
    callbacks: list[Callable[[], object]] = [partial(called.append, n) for n in range(len(counts))]
    for count, callback in zip(counts, callbacks, strict=True):
        assert not in_flight.try_reserve(count, callback)
    return called, callbacks


def test_as_many_are_called_as_there_is_room_for_and_it_is_kept_for_them() -> None:
    in_flight = InFlight(limit=3)
    in_flight.reserve(3)
    called, callbacks = held_back(in_flight, 1, 1, 1)
    in_flight.free(2)
    assert called == [0, 1]
    assert not in_flight.try_reserve(1)
    assert in_flight.try_reserve(1, callbacks[1])
    assert in_flight.try_reserve(1, callbacks[0])
    assert not in_flight.try_reserve(1)
    in_flight.free(1)
    assert called == [0, 1, 2]
    assert in_flight.in_use == 2


def test_what_is_kept_for_the_last_who_waits_is_not_taken_by_one_who_comes() -> None:
    in_flight = InFlight(limit=1)
    in_flight.reserve(1)
    called, callbacks = held_back(in_flight, 1)
    in_flight.free(1)
    assert called == [0]
    assert not in_flight.try_reserve(1)
    assert in_flight.try_reserve(1, callbacks[0])


def test_who_needs_no_room_any_more_lets_the_next_one_have_it() -> None:
    in_flight = InFlight(limit=1)
    in_flight.reserve(1)
    called, callbacks = held_back(in_flight, 1, 1, 1)
    in_flight.give_up(callbacks[1])
    in_flight.free(1)
    assert called == [0]
    in_flight.give_up(callbacks[0])
    assert called == [0, 2]
    in_flight.give_up(callbacks[0])  # as it may be told more than once
    assert in_flight.try_reserve(1, callbacks[2])
    assert not in_flight.try_reserve(1)


def test_who_needs_less_when_it_asks_again_leaves_the_rest_to_others() -> None:
    in_flight = InFlight(limit=2)
    in_flight.reserve(2)
    called, callbacks = held_back(in_flight, 2, 1)
    in_flight.free(2)
    assert called == [0]
    assert in_flight.try_reserve(1, callbacks[0])
    assert called == [0, 1]


def test_what_others_take_unasked_is_waited_for_again() -> None:
    in_flight = InFlight(limit=1)
    in_flight.reserve(1)
    called, callbacks = held_back(in_flight, 1)
    in_flight.free(1)
    in_flight.reserve(1)  # by a task
    assert not in_flight.try_reserve(1, callbacks[0])
    in_flight.free(1)
    assert called == [0, 0]
    assert in_flight.try_reserve(1, callbacks[0])


def test_room_that_is_too_little_for_the_first_is_for_one_behind_it() -> None:
    in_flight = InFlight(limit=3)
    in_flight.reserve(3)
    called, _ = held_back(in_flight, 2, 1)
    in_flight.free(1)
    assert called == [1]


@pytest.mark.parametrize("overtaken", [1, 64])
def test_few_tasks_go_before_many_unless_many_such_wait(overtaken: int) -> None:
    in_flight = InFlight(limit=3)
    in_flight.reserve(2)
    called, callbacks = held_back(in_flight, *[3] * overtaken)
    assert in_flight.try_reserve(1) is (overtaken == 1)
    in_flight.free(in_flight.in_use)
    assert called == [0]
    assert in_flight.try_reserve(3, callbacks[0])


def test_the_fuller_it_is_the_longer_one_waits() -> None:
    in_flight = InFlight(limit=2)
    assert Patience(in_flight).seconds == 1
    in_flight.reserve(6)
    assert Patience(in_flight).seconds == 3


@pytest.mark.parametrize("end", ["task", "batch", "room", "time"])
def test_a_thread_that_is_watched_waits_for_one_task_at_most(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_flights, "_GLANCE", 0.001 if end == "task" else 10)
    monkeypatch.setattr(in_flights, "_LONGEST_FOR_ONE", 0 if end == "time" else 10)
    in_flight, batch = InFlight(limit=1), Batch()
    in_flight.enter(batch)
    batch.running = object()  # type: ignore[assignment]
    asked = threading.Event()

    def condition() -> bool:
        asked.set()
        return end == "room"

    waiting = threading.Thread(target=in_flight.wait_for_one, args=(condition,))
    waiting.start()
    reached(asked)
    if end in {"task", "batch"}:
        in_flight.wait_for_one(lambda: pytest.fail("a signal handler waits as well"))
    if end == "task":
        batch.running = None
    elif end == "batch":
        in_flight.leave(batch, 0)
    waiting.join(5)
    assert not waiting.is_alive()


def test_after_a_reset_nothing_is_left(batch: Batch, log: Log) -> None:
    in_flight = InFlight(limit=1)
    in_flight.enter(batch)
    in_flight.reserve(1)
    in_flight.try_reserve(1, lambda: log.append("the parent's"))
    in_flight.reset_after_fork()
    assert (in_flight.in_use, in_flight.live()) == (0, [])
    in_flight.free(0)
    assert log == []


def test_capacity_that_the_collector_gives_back_is_there_for_the_next() -> None:
    """It may come while the lock is held, and so must not take it."""
    in_flight = InFlight(limit=2)
    assert in_flight.try_reserve(2)
    with in_flight._changed:
        in_flight.free_later(2)
    assert in_flight.in_use == 0
    assert in_flight.try_reserve(2)
    assert not in_flight.try_reserve(1)
