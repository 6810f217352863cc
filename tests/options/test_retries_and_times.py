"""``retries``, ``Retry``, ``NoRetry``, ``delay`` and ``run_after``, on every framework."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bgadapters import NoRetry, Retry, TaskEvent, current_task
from tests.core.ways import as_coroutine_function
from tests.options.frameworks import Serve

SOON = 0.05  # seconds

# Django does not close the body of an ASGI request whose stream has broken off.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile")


def of(heard: list[TaskEvent], name: str) -> list[tuple[str, int]]:
    return [(event.kind, event.attempt) for event in heard if event.name == name]


def running_loop() -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def test_a_task_is_tried_again(serve: Serve, heard: list[TaskEvent], flavour: Any) -> None:
    loops: list[Any] = []
    ids: list[str] = []

    def flaky() -> None:
        task = current_task()
        assert task is not None
        ids.append(task.id)
        loops.append(running_loop())
        if task.attempt < 3:
            raise OSError("busy")

    def work(queue: Any) -> None:
        again = queue.options(retries=3, backoff=0.001, name="flaky")
        again.add_task(flavour(flaky))
        queue.options(name="next").add_task(flavour(str))

    assert serve(work, 200) == 200
    assert of(heard, "flaky") == [
        *(("added", 1), ("started", 1), ("retrying", 1)),
        *(("started", 2), ("retrying", 2)),
        *(("started", 3), ("succeeded", 3)),
    ]
    assert of(heard, "next")[-1] == ("succeeded", 1)
    assert len(set(ids)) == 1
    assert len(set(loops)) == 1
    assert (loops[0] is None) == (flavour is not as_coroutine_function)


def test_the_last_attempt_fails(serve: Serve, heard: list[TaskEvent], flavour: Any) -> None:
    def broken() -> None:
        raise OSError("gone")

    def hopeless() -> None:
        raise NoRetry("no such address")

    def work(queue: Any) -> None:
        queue.options(retries=1, backoff=0.001, name="broken").add_task(flavour(broken))
        queue.options(retries=1, backoff=0.001, name="hopeless").add_task(flavour(hopeless))
        queue.options(retries=1, retry_on=KeyError, name="other").add_task(flavour(broken))

    serve(work, 200)
    assert of(heard, "broken")[2:] == [("retrying", 1), ("started", 2), ("failed", 2)]
    assert of(heard, "hopeless")[2:] == [("failed", 1)]
    assert of(heard, "other")[2:] == [("failed", 1)]


def test_a_task_asks_for_a_time(serve: Serve, heard: list[TaskEvent], flavour: Any) -> None:
    times: list[float] = []

    def throttled() -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            raise Retry("429", delay=SOON)

    def work(queue: Any) -> None:
        queue.options(retries=1, backoff=1000, name="throttled").add_task(flavour(throttled))

    serve(work, 200)
    assert of(heard, "throttled")[-1] == ("succeeded", 2)
    assert times[1] - times[0] >= SOON


def test_a_task_waits_for_its_time(serve: Serve, heard: list[TaskEvent], flavour: Any) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=SOON)

    def work(queue: Any) -> None:
        queue.options(delay=SOON, name="delayed").add_task(flavour(str))
        queue.options(run_after=moment, name="timed").add_task(flavour(str))

    serve(work, 200)
    for name in "delayed", "timed":
        assert of(heard, name) == [("added", 1), ("started", 1), ("succeeded", 1)]
    begun = {event.name: event for event in heard if event.kind == "started"}
    assert (begun["delayed"].wait or 0) >= SOON
    assert (begun["timed"].started_at or 0) >= moment.timestamp() - 0.01  # two clocks


def test_a_response_that_fails_takes_them_with_it(
    serve: Serve, heard: list[TaskEvent], flavour: Any
) -> None:
    def work(queue: Any) -> None:
        queue.options(delay=SOON, name="delayed").add_task(flavour(str))
        queue.options(retries=3, name="tried").add_task(flavour(str))
        queue.options(delay=SOON, always=True, name="always").add_task(flavour(str))

    serve(work, LookupError("broken"))
    assert of(heard, "delayed") == of(heard, "tried") == [("added", 1), ("discarded", 1)]
    assert of(heard, "always")[-1] == ("succeeded", 1)
