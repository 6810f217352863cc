"""A task has an application context of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flask import Flask, current_app, g, request

from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get
from tests.our_log import OurLog


@pytest.mark.parametrize("is_async", [False, True])
def test_a_task_has_an_application_context_of_its_own(
    app: Flask, tasks: BackgroundTasks, get: Get, is_async: bool
) -> None:
    """``g`` is fresh, ``current_app`` is right, and teardown runs after each task."""
    log: list[Any] = []

    @app.teardown_appcontext
    def teardown(exc: BaseException | None) -> None:
        log.append(("teardown", g.get("who"), type(exc).__name__))

    def task(who: str) -> None:
        log.append((current_app.name, "who" in g))
        g.who = who
        if who == "failing":
            raise ValueError

    async def atask(who: str) -> None:
        await asyncio.sleep(0)
        task(who)

    @app.get("/")
    def view() -> str:
        g.who = "view"
        tasks.add_task(atask if is_async else task, "failing")
        tasks.add_task(atask if is_async else task, "good")
        return request.path

    get()
    assert log == [
        ("teardown", "view", "NoneType"),
        ("app", False),
        ("teardown", "failing", "ValueError"),
        ("app", False),
        ("teardown", "good", "NoneType"),
    ]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_teardown_that_raises_fails_its_task_and_no_other(
    app: Flask, tasks: BackgroundTasks, get: Get, our_log: OurLog, is_async: bool
) -> None:
    log: list[str] = []

    @app.teardown_appcontext
    def teardown(_: BaseException | None) -> None:
        if log == ["first"]:
            raise OSError("no commit")

    async def atask(name: str) -> None:
        log.append(name)

    @app.get("/")
    def view() -> str:
        first = tasks.options(name="first")
        first.add_task(atask, "first") if is_async else first.add_task(log.append, "first")
        tasks.add_task(log.append, "second")
        return ""

    assert get().status_code == 200
    assert log == ["first", "second"]
    assert our_log.messages == ["Background task first failed: OSError: no commit"]
