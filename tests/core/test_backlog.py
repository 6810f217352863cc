"""The bound on what waits: exact, and whoever waits for it hears of every change, once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from bgadapters.core.backlog import Backlog

from bgadapters import BackgroundTasks
from tests.core.ways import Log, reached


@pytest.mark.parametrize(
    ("taken", "asked", "fits"),
    [(0, 2, True), (1, 1, True), (2, 1, False), (1, 2, False), (0, 9, True), (0, 0, True)],
)
def test_the_bound_is_exact_and_a_larger_queue_gets_in_alone(
    taken: int, asked: int, fits: bool
) -> None:
    backlog = Backlog(limit=2)
    backlog.reserve(taken)
    assert backlog.try_reserve(asked) is fits
    assert in_flight.in_use == taken + (asked if fits else 0)


@pytest.mark.parametrize("change", [Backlog.free, "leave"], ids=["free", "leave"])
def test_whoever_waits_is_woken_by_the_next_change_and_by_no_other(
    change: Callable[[Backlog, int], None] | str, queue: BackgroundTasks, log: Log
) -> None:
    backlog = Backlog(limit=1)
    backlog.enter(queue)
    backlog.reserve(2)
    assert not backlog.try_reserve(1, lambda: log.append("room"))
    assert not backlog.is_idle(lambda: log.append("idle"))
    assert log == []
    for _ in range(2):
        if isinstance(change, str):
            backlog.leave(queue, 1)
        else:
            change(backlog, 1)
    assert log == ["room", "idle"]
    assert in_flight.in_use == 0


def test_a_thread_that_waits_for_one_queue_does_not_wait_for_the_others(
    queue: BackgroundTasks, log: Log
) -> None:
    backlog = Backlog(limit=1)
    other = BackgroundTasks(runtime=queue.runtime)
    for entered in (queue, other):
        backlog.enter(entered)
    gone = threading.Event()

    def wait() -> None:
        backlog.wait_gone(queue)
        gone.set()

    threading.Thread(target=wait, daemon=True).start()
    assert not backlog.wait_idle(0)
    backlog.leave(queue, 0)
    reached(gone)
    assert backlog.live() == [other]
    backlog.leave(other, 0)
    assert backlog.wait_idle(0)
    assert backlog.is_idle(lambda: log.append("never"))
    assert log == []


def test_after_a_reset_nothing_is_left(queue: BackgroundTasks, log: Log) -> None:
    backlog = Backlog(limit=1)
    backlog.enter(queue)
    backlog.reserve(1)
    backlog.try_reserve(1, lambda: log.append("the parent's"))
    backlog.reset()
    assert (in_flight.in_use, backlog.live()) == (0, [])
    backlog.free(0)
    assert log == []


def test_places_that_the_collector_gives_back_are_there_for_the_next() -> None:
    """It may come while the lock is held, and so must not take it."""
    backlog = Backlog(2)
    assert backlog.try_reserve(2)
    with backlog._changed:
        backlog.free_later(2)
    assert in_flight.in_use == 0
    assert backlog.try_reserve(2)
    assert not backlog.try_reserve(1)
