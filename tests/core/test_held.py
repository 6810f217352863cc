"""The end of a response that waits for its tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Batch, release_response
from tests.core.ways import MakeRuntime, reached


def test_what_ends_just_before_it_is_waited_for_is_not(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, warned: Callable[[], list[str]]
) -> None:
    go_on, waits_for = threading.Event(), Batch.on_finished

    def on_finished(batch: Batch, callback: Callable[[], None]) -> bool:
        ended = threading.Event()
        assert waits_for(batch, ended.set)
        go_on.set()
        reached(ended)
        return waits_for(batch, callback)

    monkeypatch.setattr(Batch, "on_finished", on_finished)
    queue = BackgroundTasks(runtime=make_runtime(hold_response=True))
    queue.add_task(reached, go_on)
    release_response(queue)
    assert queue.batch.state == "released and finished"
    assert warned() == []
