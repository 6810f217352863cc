"""How often threads change places: for the whole process, while anybody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from bgadapters.core.drivers.lock_meter import Burned
from bgadapters.core.drivers.switching import SHORT, Switching
from tests.core.test_lock_watch import (
    Watched,
    needs_clocks,
    wait_until_it_has_ended,
    watched,
)

__all__ = ["watched"]

USUAL = 0.005


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    yield
    sys.setswitchinterval(before)


def test_it_is_short_as_long_as_anybody_asks_for_it() -> None:
    switching, one, other = Switching(), object(), object()
    switching.shorten(one)
    switching.shorten(one)
    switching.shorten(other)
    assert sys.getswitchinterval() == SHORT
    switching.restore(one)
    switching.restore(one)
    assert sys.getswitchinterval() == SHORT
    switching.restore(other)
    assert sys.getswitchinterval() == USUAL
    switching.restore(other)
    assert sys.getswitchinterval() == USUAL


@pytest.mark.parametrize("own", [SHORT / 2, SHORT])
def test_one_that_is_as_short_stays(own: float) -> None:
    sys.setswitchinterval(own)
    switching = Switching()
    switching.shorten(switching)
    assert sys.getswitchinterval() == own
    switching.restore(switching)
    assert sys.getswitchinterval() == own


def test_what_the_application_sets_meanwhile_stays() -> None:
    switching = Switching()
    switching.shorten(switching)
    sys.setswitchinterval(0.02)
    switching.restore(switching)
    assert sys.getswitchinterval() == 0.02


def test_in_a_forked_child_it_is_as_it_was() -> None:
    switching = Switching()
    switching.shorten(switching)
    with switching._lock:  # as another thread may have it at the fork
        switching.reset_after_fork()
    assert sys.getswitchinterval() == USUAL
    sys.setswitchinterval(0.01)
    switching.reset_after_fork()
    assert sys.getswitchinterval() == 0.01
    switching.shorten(switching)
    switching.restore(switching)
    assert sys.getswitchinterval() == 0.01


@needs_clocks
def test_a_watch_asks_for_it_while_tasks_are_what_keeps_the_lock_from_being_had(
    watched: Watched,
) -> None:
    """Not where the lock is to be had, nor where others have it."""
    with watched.worker() as (_, clock), watched.worker():
        burned = 0.0

        def interval_after(contested: bool, burns: bool, is_free: bool = False) -> float:
            nonlocal burned
            burned += 0.01 * burns
            watched.steps.burned = {clock: Burned(burned, is_free)}
            watched.look(contested)
            watched.look(is_contested=False)  # what the one before has led to is in place
            return sys.getswitchinterval()

        assert interval_after(contested=True, burns=False) == USUAL
        assert interval_after(contested=False, burns=True) == USUAL
        assert interval_after(contested=True, burns=True, is_free=True) == USUAL
        assert interval_after(contested=True, burns=True) == SHORT
        for _ in range(18):
            watched.look(is_contested=False)
        assert sys.getswitchinterval() == SHORT
        for _ in range(2):
            watched.look(is_contested=False)
        assert sys.getswitchinterval() == USUAL


def see_it_held(watched: Watched, clock: int) -> None:
    """Have the watch find that a task keeps the lock from being had."""
    watched.look()
    watched.steps.burned = {clock: Burned(0.01, False)}
    watched.look()
    watched.look(is_contested=False)
    assert sys.getswitchinterval() == SHORT


@needs_clocks
def test_a_watch_that_ends_asks_for_it_no_longer(
    watched: Watched, errors: Callable[[], list[str]]
) -> None:
    with watched.worker() as (_, clock), watched.worker():
        see_it_held(watched, clock)
        watched.steps.fault = KeyError("a fault")
        watched.steps.step()
        wait_until_it_has_ended(watched)
        assert sys.getswitchinterval() == USUAL
    assert errors() == ["Watching the interpreter's lock has failed"]


@needs_clocks
def test_a_forked_child_of_one_that_asks_has_it_as_it_was(watched: Watched) -> None:
    with watched.worker() as (_, clock), watched.worker():
        see_it_held(watched, clock)
        watched.watch.reset_after_fork()
        assert sys.getswitchinterval() == USUAL
    watched.steps.end()
    wait_until_it_has_ended(watched)
    assert sys.getswitchinterval() == USUAL
