"""The background loop outlives what tasks do to it."""

from __future__ import annotations

import asyncio

import pytest

from bgadapters import BackgroundTasks
from tests.core.ways import Log, MakeRuntime, in_threads


def test_a_task_that_stops_it_costs_no_other(make_runtime: MakeRuntime, log: Log) -> None:
    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        log.append(asyncio.get_running_loop())

    made = make_runtime()
    for _ in range(2):
        queue = BackgroundTasks(runtime=made)
        queue.add_task(stop)
        queue.add_task(stop)
        in_threads(queue)
    assert len(log) == 4
    assert len(set(map(id, log))) == 1


def test_the_loop_outlives_what_a_task_has_started(
    make_runtime: MakeRuntime, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio lets SystemExit out of a loop; the async tasks that follow still run on it."""
    made = make_runtime()
    kept: list[asyncio.Task[None]] = []

    async def leave() -> None:
        raise SystemExit

    async def start() -> None:
        kept.append(asyncio.create_task(leave()))

    async def note() -> None:
        log.append("ran")

    for task in (start, note):
        queue = BackgroundTasks(runtime=made)
        queue.add_task(asyncio.sleep, 0.01)
        queue.add_task(task)
        queue.add_task(asyncio.sleep, 0.01)
        queue.release()
        assert made.drain() == []
    assert log == ["ran"]
    assert "that a background task has started has failed" in caplog.text
    with pytest.raises(SystemExit):
        kept[0].result()
