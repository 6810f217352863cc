"""What is told of a task is told for its own request, and keeps nothing of it."""

from __future__ import annotations

import gc
import logging
from typing import Any
from weakref import WeakSet

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from bgadapters import TaskEvent
from bgadapters.adapters import subscribe, unsubscribe
from bgadapters.fastapi import BackgroundTasks
from tests.whose import afail, fail, who


@pytest.mark.parametrize("task", [fail, afail])
def test_a_task_is_told_of_for_its_own_request(app: FastAPI, task: Any) -> None:
    """With init_app and without it; and no request is alive afterwards."""
    log: list[Any] = []
    alive: WeakSet[Request] = WeakSet()

    def listen(event: TaskEvent) -> None:
        log.append((event.kind, who.get(), event.method, event.path))

    @app.post("/{name}")
    async def view(name: str, request: Request, background_tasks: BackgroundTasks) -> None:
        who.set(name)
        alive.add(request)
        background_tasks.add_task(task)
        if name == "bad":
            raise LookupError

    subscribe(listen)
    logging.disable(logging.CRITICAL)  # pytest keeps records
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            for name in "ada", "bad":
                client.post(f"/{name}")
    finally:
        logging.disable(logging.NOTSET)
        unsubscribe(listen)
    gc.collect()
    assert log == [
        ("added", "ada", "POST", "/ada"),
        ("started", "ada", "POST", "/ada"),
        ("failed", "ada", "POST", "/ada"),
        ("added", "bad", "POST", "/bad"),
        ("discarded", "bad", "POST", "/bad"),
    ]
    assert not alive
