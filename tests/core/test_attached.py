"""A queue that is attached to another shares its fate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bgadapters import BackgroundTasks, QueueClosedError
from bgadapters.adapters import Runtime
from tests.core.ways import Log, MakeRuntime, Run


def pair(runtime: Runtime) -> tuple[BackgroundTasks, BackgroundTasks]:
    queue, other = BackgroundTasks(runtime=runtime), BackgroundTasks(runtime=runtime)
    queue.attach(other)
    return queue, other


@pytest.mark.parametrize("own", [True, False], ids=["beside tasks", "alone"])
def test_it_is_released_with_it(runtime: Runtime, log: Log, own: bool) -> None:
    queue, other = pair(runtime)
    other.add_task(log.append, "attached")
    if own:
        queue.add_task(log.append, "own")
    assert other.is_open
    queue.release()
    queue.release()
    assert runtime.drain() == []
    assert sorted(log) == (["attached", "own"] if own else ["attached"])


def test_every_way_to_run_it_releases_it(runtime: Runtime, log: Log, run: Run) -> None:
    queue, other = pair(runtime)
    queue.add_task(log.append, "own")
    other.add_task(log.append, "attached")
    run(queue)
    assert runtime.drain() == []
    assert sorted(log) == ["attached", "own"]


@pytest.mark.parametrize("end", ["discard", "close"])
def test_it_is_discarded_with_it_in_one_warning(
    make_runtime: MakeRuntime, log: Log, warned: Callable[[], list[str]], end: str
) -> None:
    runtime = make_runtime(on_full="reject")
    queue, other = pair(runtime)
    queue.options(name="own").add_task(log.append, "own")
    other.options(name="attached").add_task(log.append, "attached")
    other.options(always=True).add_task(log.append, "always")
    getattr(queue, end)(KeyError("view"))
    queue.release()
    assert runtime.drain() == []
    assert log == ["always"]
    assert warned() == [
        "2 background task(s) discarded, the response failed with KeyError: 'view': own, attached"
    ]


@pytest.mark.parametrize("how", ["released", "closed"])
def test_a_queue_that_has_ended_takes_no_other(runtime: Runtime, how: str) -> None:
    queue = BackgroundTasks(runtime=runtime)
    if how == "released":
        queue.release()
    else:
        queue.close(KeyError("view"))
    with pytest.raises(QueueClosedError, match="cannot attach <Batch open"):
        queue.attach(BackgroundTasks(runtime=runtime))


def test_one_that_was_released_before_runs_once(runtime: Runtime, log: Log) -> None:
    queue, other = pair(runtime)
    other.add_task(log.append, "attached")
    other.release()
    queue.close(KeyError("view"))
    asyncio.run(queue.arelease())
    assert runtime.drain() == []
    assert log == ["attached"]


@pytest.mark.parametrize("own", [True, False], ids=["beside tasks", "alone"])
def test_the_highest_priority_is_released_first(
    make_runtime: MakeRuntime, log: Log, own: bool
) -> None:
    """So that it gets the worker that is free."""
    runtime = make_runtime(max_workers=1)
    queue = BackgroundTasks(runtime=runtime)
    for priority in [-1, 1, 0, 2]:
        other = BackgroundTasks(runtime=runtime, priority=priority)
        other.add_task(log.append, priority)
        queue.attach(other)
    if own:
        queue.add_task(log.append, "own")
    queue.release()
    assert runtime.drain() == []
    assert log == ([2, 1, "own", 0, -1] if own else [2, 1, 0, -1])


def test_what_waits_for_a_time_may_have_others_attached(runtime: Runtime, log: Log) -> None:
    """They do not wait with it."""
    queue = BackgroundTasks(runtime=runtime, due=time.monotonic() + 0.05)
    queue.add_task(log.append, "later")
    for priority in [-1, 1]:
        other = BackgroundTasks(runtime=runtime, priority=priority)
        other.add_task(log.append, "attached")
        queue.attach(other)
    queue.release()
    assert runtime.drain() == []
    assert log == ["attached", "attached", "later"]
