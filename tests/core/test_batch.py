"""What the state machine of a batch does beside its transitions."""

from __future__ import annotations

import threading
from contextvars import Context
from time import monotonic

import pytest

from bgadapters import QueueClosedError
from bgadapters.adapters import Batch, Task
from bgadapters.core.model.batch_state import OPEN
from bgadapters.core.model.live_batch import LiveBatch


def noop() -> None: ...


def plain_task() -> Task:
    return Task(noop, (), Context())


def test_a_plain_task_is_added_though_another_thread_has_the_lock() -> None:
    batch, task = Batch(), plain_task()
    adds = threading.Thread(target=batch.add, args=(task,), daemon=True)
    with batch._lock:
        adds.start()
        adds.join(20)
        waiting = list(batch.waiting)
    assert waiting == [task]


def test_the_time_of_the_first_task_is_noted() -> None:
    batch = Batch()
    before = monotonic()
    batch.add(plain_task())
    first, after = batch.added, monotonic()
    batch.add(plain_task())
    assert first is not None
    assert before <= first <= after
    assert batch.added == first


def test_a_batch_that_was_closed_notes_no_time() -> None:
    batch = Batch()
    batch.remove()
    with pytest.raises(QueueClosedError, match="was discarded"):
        batch.add(plain_task())
    assert (batch.added, len(batch)) == (None, 0)


def test_the_time_is_noted_of_a_task_that_is_added_as_those_before_it_end() -> None:
    batch = LiveBatch()
    batch.add(plain_task())
    batch.release(lambda: None)
    assert batch.take(False)
    lock = batch._lock

    class EndsFirst:
        def __enter__(self) -> None:
            lock.acquire()
            batch._lock = lock
            assert batch.finish()

        def __exit__(self, *_: object) -> None:
            lock.release()

    batch._lock = EndsFirst()  # type: ignore[assignment]
    batch.add(plain_task(), (), 1)
    assert (batch.state, len(batch)) == (OPEN, 1)
    assert batch.added is not None


def test_a_task_that_is_added_where_an_exception_is_handled_stays() -> None:
    batch = Batch()
    earlier, later = plain_task(), plain_task()
    batch.add(earlier)
    try:
        raise ValueError
    except ValueError as exc:
        batch.add(later)
        effects = batch.discard(exc)
    assert effects.discarded == [earlier]
    assert list(batch.waiting) == [later]


def test_a_batch_whose_construction_was_broken_off_is_collected_quietly() -> None:
    batch = Batch.__new__(Batch)
    batch.__del__()  # what it raised would be seen by nobody
    with pytest.raises(AttributeError):
        _ = batch.state


def test_a_batch_that_is_like_a_live_one_is_not_live() -> None:
    live = LiveBatch("/socket", method="GET")
    alike = live.alike()
    assert (live.is_live, alike.is_live) == (True, False)
    assert (alike.path, alike.method, alike.id) == ("/socket", "GET", live.id)
    alike.add(plain_task())
    assert alike.release(noop).begins
    assert alike.take(False) is not None
    assert alike.finish() is not None
    assert alike.state is not OPEN  # where a live one is open again
