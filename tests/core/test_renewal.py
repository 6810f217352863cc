"""A lease is renewed by a thread of its own, until it is stopped."""

from __future__ import annotations

import threading

from bgadapters.adapters import Renewal
from tests.core.ways import PATIENCE, reached
from tests.our_log import OurLog


def test_it_is_called_until_it_is_stopped() -> None:
    calls: list[str] = []
    called = threading.Event()

    def renew() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            called.set()

    renewal = Renewal(renew, 0.01)
    renewal.start()
    reached(called)
    renewal.stop()
    renewal.stop()
    number = len(calls)
    assert set(calls) == {calls[0]} != {threading.current_thread().name}
    assert len(calls) == number


def test_a_stop_waits_for_a_call_that_is_being_made() -> None:
    begun, ended = threading.Event(), threading.Event()

    def renew() -> None:
        begun.set()
        ended.set()

    renewal = Renewal(renew, 0.01)
    renewal.start()
    reached(begun)
    renewal.stop()
    assert ended.is_set()


def test_one_that_was_not_started_is_stopped_at_once() -> None:
    Renewal(lambda: None, PATIENCE).stop()


def test_what_it_raises_is_said_once_until_it_has_succeeded(our_log: OurLog) -> None:
    outcomes: list[Exception | None] = [OSError("away"), OSError("away"), None, OSError("again")]

    def renew() -> None:
        raised = outcomes.pop(0)
        if raised is not None:
            raise raised

    renewal = Renewal(renew, PATIENCE)
    for _ in range(4):
        renewal.renew()
    assert len(our_log.warnings) == 2
    assert "cannot be told that this process lives" in our_log.warnings[0]
    assert our_log.warnings[0].endswith("away")
    assert our_log.warnings[1].endswith("again")
