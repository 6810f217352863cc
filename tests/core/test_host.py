"""What is known of servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core import host
from tests.core.ways import Log, in_threads


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    host.threads_run.cache_clear()
    yield
    host.threads_run.cache_clear()


@pytest.mark.parametrize(
    ("uwsgi", "run"),
    [
        (None, True),
        (SimpleNamespace(), True),
        (SimpleNamespace(has_threads=1), True),
        (SimpleNamespace(has_threads=0), False),
    ],
)
def test_whether_threads_run(uwsgi: Any, run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    assert host.threads_run() is run


def test_where_threads_do_not_run_none_is_used(
    queue: BackgroundTasks, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))

    async def task() -> None:
        log.append("async")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    queue.add_task(log.append, "last")
    queue.release()
    assert log == ["sync", "async", "last"]
    in_threads(queue)


@pytest.mark.parametrize(
    ("module", "asked"),
    [("gunicorn.workers.gasgi", host.closes_with_the_call), ("mod_wsgi", host.owns_signals)],
)
def test_what_a_loaded_module_tells(
    module: str, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    assert not asked()
    monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    assert asked()
