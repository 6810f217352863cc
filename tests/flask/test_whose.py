"""What is told of a task is told for its own request, in an application context."""

from __future__ import annotations

import gc
import logging
from typing import Any
from weakref import WeakSet

import pytest
from flask import Flask, current_app, g, has_app_context, has_request_context, request

import bgadapters
from bgadapters import TaskEvent
from bgadapters.flask import BackgroundTasks
from tests.whose import afail, fail, who


class Seen(logging.Handler):
    """A log handler that notes whose record it gets, and where."""

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        assert current_app.name == "app"
        self.log.append((record.levelname, who.get(), has_request_context()))


@pytest.mark.parametrize("task", [fail, afail])
def test_hooks_and_logs_are_in_an_application_context(task: Any) -> None:
    log: list[Any] = []
    app = Flask("app")

    def hook(event: TaskEvent) -> None:
        assert current_app.name == "app"
        assert event.kind == "added" or "of the view" not in g
        g.of_the_hook = True
        log.append((event.kind, who.get(), event.method, event.path))

    tasks = BackgroundTasks(app, on_event=hook)
    closed: list[bool] = []

    @app.teardown_appcontext
    def teardown(_: BaseException | None) -> None:
        closed.append("of_the_hook" in g)

    @app.get("/<name>")
    def view(name: str) -> str:
        who.set(name)
        setattr(g, "of the view", True)
        tasks.add_task(task)
        if name == "bad":
            raise LookupError
        return "done"

    handler = Seen(log)
    logging.getLogger("bgadapters").addHandler(handler)
    try:
        for name in "ada", "bad":
            with app.test_client().get(f"/{name}"):
                pass
            bgadapters.drain(10)
    finally:
        logging.getLogger("bgadapters").removeHandler(handler)
    assert log == [
        ("added", "ada", "GET", "/ada"),
        ("started", "ada", "GET", "/ada"),
        ("ERROR", "ada", False),
        ("failed", "ada", "GET", "/ada"),
        ("added", "bad", "GET", "/bad"),
        ("WARNING", "bad", False),
        ("discarded", "bad", "GET", "/bad"),
    ]
    # Of each hook, of the task and of the views, in which "added" was told; and of no record.
    assert closed == [True, True, False, True, True, True]
    assert not has_app_context()


@pytest.mark.parametrize("task", [fail, afail])
def test_nothing_of_a_request_is_alive_after_its_tasks(task: Any) -> None:
    alive: WeakSet[Any] = WeakSet()
    app = Flask("app")
    heard: list[str] = []
    tasks = BackgroundTasks(app, on_event=lambda event: heard.append(event.kind))

    @app.get("/")
    def view() -> str:
        real: Any = request
        alive.add(real._get_current_object())
        tasks.add_task(task)
        return "done"

    logging.disable(logging.CRITICAL)  # pytest keeps records
    for _ in range(2):
        with app.test_client() as client:
            client.get("/").close()
        bgadapters.drain(10)
    logging.disable(logging.NOTSET)
    gc.collect()
    assert heard == ["added", "started", "failed"] * 2
    assert not alive
