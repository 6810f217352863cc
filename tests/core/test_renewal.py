"""A process that says from time to time that it lives."""

from __future__ import annotations

import threading
from collections.abc import Callable

from bgadapters.adapters import Renewal
from tests.core.ways import PATIENCE, reached


def test_it_is_called_until_it_is_stopped() -> None:
    called = [threading.Event(), threading.Event()]
    left = list(called)

    def renew() -> None:
        if left:
            left.pop(0).set()

    renewal = Renewal(renew, 0.0)
    renewal.stop()  # it has not begun
    renewal = Renewal(renew, 0.0)
    renewal.start()
    for each in called:
        reached(each)
    renewal.stop()
    assert not renewal._thread.is_alive()


def test_one_that_has_just_begun_is_stopped_at_once() -> None:
    renewal = Renewal(lambda: None, PATIENCE)
    renewal.start()
    renewal.stop()
    assert not renewal._thread.is_alive()


def test_a_failure_is_told_until_it_goes_well_again(warned: Callable[[], list[str]]) -> None:
    failures: list[Exception | None] = [OSError("away"), OSError("away"), None, OSError("again")]

    def renew() -> None:
        failure = failures.pop(0)
        if failure is not None:
            raise failure

    renewal = Renewal(renew, PATIENCE)
    for _ in range(4):
        renewal.renew()
    assert [said.rpartition(": ")[2] for said in warned()] == ["away", "again"]
