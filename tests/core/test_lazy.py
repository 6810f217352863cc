"""A queue whose batch is made when something asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from bgadapters import QueueClosedError
from bgadapters.core.api.lazy import LazyBatch
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.outcome import ResponseOutcome


class _Lazy(LazyBatch):
    __slots__ = ()

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.is_used = False
        self.made = {}
        self.noted = None
        self.request_path, self.request_method = "/orders", "POST"


@pytest.fixture
def lazy(runtime: Runtime) -> _Lazy:
    return _Lazy(runtime)


def test_a_response_without_tasks_makes_no_batch(lazy: _Lazy) -> None:
    lazy.note_response(204)
    assert (lazy.is_open, len(lazy)) == (True, 0)
    lazy.release()
    assert (lazy.is_open, len(lazy)) == (False, 0)
    lazy.close(ValueError())
    assert lazy.take_capacity()
    assert not lazy.is_used


def test_a_task_runs_when_its_response_is_complete(lazy: _Lazy) -> None:
    log: list[str] = []
    lazy.add_task(log.append, "task")
    assert (lazy.is_used, len(lazy), log) == (True, 1, [])
    assert (lazy.batch.path, lazy.batch.method) == ("/orders", "POST")
    lazy.release()
    assert lazy.runtime.drain() == []
    assert log == ["task"]


def test_what_was_noted_before_is_known_to_the_tasks(lazy: _Lazy) -> None:
    lazy.note_response(201)
    lazy.note_response(client_left=True)
    lazy.add_task(print)
    assert lazy.batch.outcome == ResponseOutcome(201, None, True)
    lazy.note_response(202)
    assert lazy.batch.outcome == ResponseOutcome(202, None, True)
    lazy.batch.remove()


def test_what_was_noted_once_is_known_to_the_tasks(lazy: _Lazy) -> None:
    lazy.note_response(201)
    lazy.add_task(print)
    assert lazy.batch.outcome == ResponseOutcome(201, None, False)
    lazy.batch.remove()


class _MadeMeanwhile(dict[str, Any]):
    """Holds what another thread has put in since it was first looked at."""

    has_looked = False

    def __bool__(self) -> bool:
        has_looked, self.has_looked = self.has_looked, True
        return has_looked


def test_what_is_noted_while_another_thread_adds_is_not_lost(lazy: _Lazy) -> None:
    made = Batch()
    lazy.made = _MadeMeanwhile(batch=made)
    lazy.note_response(201)
    assert made.outcome == ResponseOutcome(201, None, False)


def test_a_failure_discards_what_was_added(lazy: _Lazy) -> None:
    lazy.add_task(print)
    lazy.close(ValueError())
    assert (lazy.is_open, len(lazy)) == (False, 0)


def test_what_was_released_without_tasks_takes_none(lazy: _Lazy) -> None:
    lazy.release()
    with pytest.raises(QueueClosedError):
        lazy.add_task(print)
    lazy.release()
    assert not lazy.is_open


def test_it_has_no_other_names(lazy: _Lazy) -> None:
    with pytest.raises(AttributeError, match="'_Lazy' object has no attribute 'bach'"):
        _ = lazy.bach
