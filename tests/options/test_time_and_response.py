"""``timeout``, ``run_on``, ``flush()`` and what a task knows of itself, on every framework."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import bgadapters
from bgadapters import ResponseOutcome, TaskEvent, TaskInfo, current_task
from tests.core.ways import PATIENCE, reached
from tests.options.frameworks import MAKE, Serve

SOON = 0.05  # seconds


# Django does not close the body of an ASGI request whose stream has broken off.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*SpooledTemporaryFile")


def ends(heard: list[TaskEvent]) -> dict[str, str]:
    """The one outcome of each task."""
    found = [(event.name, event.kind) for event in heard if event.outcome is not None]
    assert len(found) == len(dict(found))
    return dict(found)


def test_time_is_limited(serve: Serve, heard: list[TaskEvent]) -> None:
    is_overdue = threading.Event()

    async def waits() -> None:
        await asyncio.get_running_loop().create_future()

    def is_slow() -> None:
        for _ in range(int(PATIENCE / SOON)):
            if any(event.kind == "overdue" for event in heard) or is_overdue.wait(SOON):
                return

    def work(queue: Any) -> None:
        queue.options(timeout=SOON, name="async").add_task(waits)
        queue.options(timeout=SOON, name="sync").add_task(is_slow)
        queue.options(timeout=PATIENCE, name="quick").add_task(str)

    assert serve(work, 200) == 200
    assert ends(heard) == {"async": "failed", "sync": "succeeded", "quick": "succeeded"}
    (failure,) = [event.exception for event in heard if event.kind == "failed"]
    assert isinstance(failure, TimeoutError)
    (overdue,) = [event for event in heard if event.kind == "overdue"]
    assert overdue.name == "sync"
    assert "in is_slow" in (overdue.stack or "")


@pytest.mark.parametrize("answer", [200, 500, LookupError("broken")], ids=str)
def test_tasks_are_for_one_end_or_the_other(
    serve: Serve, heard: list[TaskEvent], flavour: Any, answer: Any
) -> None:
    log: list[str] = []

    def work(queue: Any) -> None:
        for run_on in ("success", "error", "always"):
            queue.options(run_on=run_on, name=run_on).add_task(flavour(log.append), run_on)

    serve(work, answer)
    if isinstance(answer, Exception):
        assert log == ["error", "always"]
        assert ends(heard) == {"success": "discarded", "error": "succeeded", "always": "succeeded"}
    else:
        assert log == ["success", "always"]
        assert ends(heard) == {"success": "succeeded", "error": "discarded", "always": "succeeded"}


@pytest.mark.parametrize("answer", [201, 503, LookupError("broken")], ids=str)
def test_a_task_knows_itself_and_its_response(
    serve: Serve, heard: list[TaskEvent], flavour: Any, answer: Any
) -> None:
    seen: list[TaskInfo] = []
    outcomes: list[ResponseOutcome | None] = []

    def look() -> None:
        task = current_task()
        assert task is not None
        seen.append(task)
        outcomes.append(task.response)

    assert current_task() is None
    status = serve(lambda queue: queue.options(always=True).add_task(flavour(look)), answer)
    (task,) = seen
    assert (task.id, task.path, task.method, task.attempt) == (heard[0].task_id, "/", "GET", 1)
    (outcome,) = outcomes
    assert outcome is not None
    if isinstance(answer, Exception):
        assert outcome.exception is answer
        assert outcome.status in ({status, None} if status else {None, 500})
    else:
        assert outcome == ResponseOutcome(answer, None, False)
        assert status == answer


def test_a_stream_flushes_what_it_has_added_so_far(serve: Serve, flavour: Any) -> None:
    log: list[str] = []
    ran = threading.Event()

    def work(queue: Any) -> None:
        queue.add_task(flavour(log.append), "of the view")
        queue.add_task(flavour(ran.set))
        queue.flush()

    def parts(queue: Any) -> Iterator[bytes]:
        yield b"begin"
        for _ in range(2000):
            if ran.is_set():
                break
            yield b"still waiting"
            ran.wait(0.005)
        assert ran.is_set()
        log.append("the stream ends")
        queue.add_task(flavour(log.append), "of the stream")
        yield b"end"

    assert serve(work, parts) == 200
    assert log == ["of the view", "the stream ends", "of the stream"]


def test_a_stream_that_breaks_off_discards_the_later_ones_alone(
    serve: Serve, heard: list[TaskEvent], flavour: Any
) -> None:
    log: list[str] = []

    def parts(queue: Any) -> Iterator[bytes]:
        yield b"begin"
        bgadapters.add_task(flavour(log.append), "flushed")
        bgadapters.flush()
        bgadapters.add_task(flavour(log.append), "discarded")
        raise LookupError("broken off")

    serve(lambda queue: None, parts)
    assert log == ["flushed"]
    assert sorted(event.kind for event in heard if event.outcome) == ["discarded", "succeeded"]


def test_async_tasks_that_are_flushed_run_on_the_loop_of_their_server() -> None:
    loops: list[Any] = []

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    for name in ("fastapi, sync view", "django, asgi, sync view", "django, our asgi", "any asgi"):
        loops.clear()
        done = threading.Event()

        def work(queue: Any, done: threading.Event = done) -> None:
            queue.add_task(note)
            queue.flush()
            queue.add_task(note)
            queue.add_task(done.set)

        MAKE[name](lambda _: None)(work, 200)
        reached(done)
        assert len(loops) == 2
        assert loops[0] is loops[1], name
        assert loops[0].is_closed(), name  # it was that of asyncio.run
