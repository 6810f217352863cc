"""What a drain has no time for, and a store keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from bgadapters import BackgroundTasks, task_options
from bgadapters.adapters import Runtime, Settings
from bgadapters.fastapi import BackgroundTasks as FastAPITasks
from bgadapters.fastapi import init_app
from bgadapters.stores import StoredTasks
from tests.core.ways import reached
from tests.our_log import OurLog

BEGUN, MAY_END = threading.Event(), threading.Event()
WHY = "abandoned, not finished within the drain timeout of 0 s"
KEPT = f"2 background task(s) {WHY}, but kept in the store, for the next process to run: kept, kept"
LOST = f"1 background task(s) {WHY}: lost"


@task_options()
def stays() -> None:
    """Take as long as the test."""
    BEGUN.set()
    reached(MAY_END)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """An application with one worker and a store."""
    BEGUN.clear()
    MAY_END.clear()
    runtime = Runtime(Settings(store=f"sqlite:///{tmp_path}/tasks.db", max_workers=1))
    yield runtime
    MAY_END.set()
    runtime.close()


@pytest.mark.parametrize(
    ("names", "said"), [(["kept", "kept"], [KEPT]), (["kept", "lost", "kept"], [LOST, KEPT])]
)
def test_what_is_kept_is_not_named_as_lost(
    runtime: Runtime, our_log: OurLog, names: list[str], said: list[str]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    for name in names:
        queue.options(name=name, durable=name == "kept").add_task(stays)
    queue.confirm()
    queue.release()
    reached(BEGUN)
    assert runtime.drain(0) == names
    assert our_log.warnings == said


def test_what_could_not_be_kept_is_lost(runtime: Runtime, tmp_path: Path, our_log: OurLog) -> None:
    (tmp_path / "tasks.db").mkdir()  # so that it is no file
    with BackgroundTasks(runtime=runtime) as queue:  # no response waits, so it runs all the same
        queue.options(name="lost", durable=True).add_task(stays)
    reached(BEGUN)
    assert runtime.drain(0) == ["lost"]
    assert our_log.warnings[-1] == LOST


def none() -> None:
    """Succeed at once."""


def test_a_lifespan_that_ends_leaves_nothing_to_be_written(tmp_path: Path) -> None:
    """No task is left, but what has become of the last one may wait for others to be written."""
    url = f"sqlite:///{tmp_path}/tasks.db"
    app = FastAPI()
    init_app(app, store=url, task_modules=[__name__])

    @app.get("/")
    async def view(tasks: FastAPITasks) -> None:
        tasks.options(durable=True).add_task(none)

    with TestClient(app) as client:
        assert client.get("/").status_code == 200
    assert StoredTasks(url).count() == {"waiting": 0, "failed": 0}
