"""A task has no request, keeps none, and makes the URLs that its request would make."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from flask import Flask, has_request_context, request, session, url_for

import bgadapters
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get

variable: ContextVar[str] = ContextVar("variable")


@pytest.mark.parametrize("how", ["extension", "module", "options"])
def test_waiting_tasks_keep_no_request(app: Flask, how: str) -> None:
    tasks = BackgroundTasks(app, max_workers=1)
    go = threading.Event()
    kept: list[weakref.ref[Any]] = []
    ways: dict[str, Callable[..., None]] = {
        "extension": tasks.add_task,
        "module": bgadapters.add_task,
        "options": lambda *args: tasks.options(always=True).add_task(*args),
    }
    add = ways[how]

    @app.post("/")
    def view() -> str:
        assert len(request.get_data()) == 100_000
        kept.append(weakref.ref(request._get_current_object()))  # type: ignore[attr-defined]
        add(go.wait, 20)
        return ""

    try:
        for _ in range(5):
            app.test_client().post("/", data=bytes(100_000), buffered=True)
        gc.collect()
        assert [ref() for ref in kept] == [None] * 5
    finally:
        go.set()
        assert bgadapters.drain(10) == []


def use_request() -> None:
    _ = request.path


def use_session() -> None:
    session["key"] = "value"


def use_in_turn() -> None:
    try:
        use_request()
    except RuntimeError as exc:
        raise ValueError("of it") from exc


@pytest.mark.parametrize("use", [use_request, use_session, use_in_turn])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_error_of_a_missing_request_says_what_to_do(
    app: Flask,
    tasks: BackgroundTasks,
    get: Get,
    caplog: pytest.LogCaptureFixture,
    is_async: bool,
    use: Callable[[], None],
) -> None:
    async def atask() -> None:
        await asyncio.sleep(0)
        use()

    @app.get("/")
    def view() -> str:
        tasks.add_task(atask if is_async else use)
        return ""

    get()
    (record,) = [r for r in caplog.records if r.name == "bgadapters"]
    assert record.exc_info
    said = "".join(traceback.format_exception(record.exc_info[1]))
    assert "Read what the task needs of request, session or current_user in the view" in said


def test_another_error_gets_no_such_advice(
    app: Flask, tasks: BackgroundTasks, get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("of its own")

    @app.get("/")
    def view() -> str:
        tasks.add_task(fail)
        return ""

    get()
    (record,) = [r for r in caplog.records if r.name == "bgadapters"]
    assert record.exc_info
    assert getattr(record.exc_info[1], "__notes__", []) == []


def test_a_task_makes_the_urls_of_its_request(app: Flask, tasks: BackgroundTasks, get: Get) -> None:
    log: list[Any] = []

    def last() -> None:
        log.append(url_for("view", _external=True))

    def task() -> None:
        log.extend([has_request_context(), variable.get(), url_for("view", _external=False)])
        tasks.add_task(last)  # its own task has them too

    @app.get("/path")
    def view() -> str:
        variable.set("of the view")
        tasks.add_task(task)
        return ""

    get("/path", base_url="https://shop.example:8443/prefix")
    assert log == [False, "of the view", "/prefix/path", "https://shop.example:8443/prefix/path"]
