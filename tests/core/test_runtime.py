"""What one application runs with, put together: its scopes and its snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core.app import runtime
from tests.core.ways import Log, MakeRuntime, in_threads


def test_the_default_runtime_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_default", {})
    assert runtime.default_runtime() is runtime.default_runtime()


def test_a_scope_is_entered_around_sync_and_async_tasks(
    make_runtime: MakeRuntime, log: Log
) -> None:
    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        log.append("in")
        yield
        log.append("out")

    queue = BackgroundTasks(runtime=make_runtime(scope=scope))

    async def task() -> None:
        await asyncio.sleep(0)
        log.append("async")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    in_threads(queue)
    assert log == ["in", "sync", "out", "in", "async", "out"]


def test_a_snapshot_is_taken_before_the_context_is_copied(make_runtime: MakeRuntime) -> None:
    taken: Log = []
    queue = BackgroundTasks(runtime=make_runtime(snapshot=lambda: taken.append(1)))
    queue.add_task(print, end="")
    assert taken == [1]
    in_threads(queue)
