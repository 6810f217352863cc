"""Tasks that teardown functions add, after a request or a task: no endless chain of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, g

import bgadapters
from bgadapters import drain
from bgadapters.flask import BackgroundTasks
from tests.flask.conftest import Get
from tests.our_log import OurLog

Add = Callable[..., Any]


def extension(app: Flask) -> BackgroundTasks:
    return BackgroundTasks(app, max_pending=20)


WAYS: dict[str, Callable[[BackgroundTasks], Add]] = {
    "add_task": lambda _: bgadapters.add_task,
    "extension": lambda tasks: tasks.add_task,
    "options": lambda tasks: lambda *call: tasks.options(always=True).add_task(*call),
    "enqueue": lambda _: bgadapters.enqueue,
    "lambda": lambda tasks: lambda func, *args: tasks.add_task(lambda: func(*args)),
}


@pytest.mark.parametrize("way", WAYS)
def test_one_that_adds_a_task_each_time_adds_one_for_a_request(
    app: Flask, get: Get, our_log: OurLog, way: str
) -> None:
    """Not one for the task of which it is called again. One warning says so."""
    log: list[str] = []
    add = WAYS[way](extension(app))

    @app.teardown_appcontext
    def flush(_: BaseException | None) -> None:
        add(log.append, "flush")

    @app.get("/")
    def view() -> str:
        return "ok"

    for _ in range(3):
        get()
    assert log == ["flush"] * 3
    assert app.extensions["bgadapters"].events.totals.counts()["discarded"] == 3
    (warning,) = our_log.warnings
    assert ("<lambda>" if way == "lambda" else "list.append") in warning
    assert "was not added: a teardown function adds it" in warning


def test_nor_does_one_whose_task_fails_for_the_hook_that_is_told(app: Flask, get: Get) -> None:
    """The hook has an application context too, and its end calls the function again."""
    told: list[str] = []
    tasks = BackgroundTasks(app, max_pending=20, on_error=lambda event: told.append(event.kind))

    def fail() -> None:
        raise OSError

    @app.teardown_appcontext
    def flush(_: BaseException | None) -> None:
        tasks.add_task(fail)

    @app.get("/")
    def view() -> str:
        return "ok"

    get()
    assert drain(10) == []
    assert told == ["failed"]


def test_nor_do_two_of_them_add_for_each_other(app: Flask, get: Get) -> None:
    """An async one as well. The task of the view has its own, as it may leave something behind."""
    log: list[str] = []
    tasks = extension(app)

    async def anote(what: str) -> None:
        log.append(what)

    @app.teardown_appcontext
    def first(_: BaseException | None) -> None:
        tasks.add_task(log.append, "first")

    @app.teardown_appcontext
    def second(_: BaseException | None) -> None:
        tasks.add_task(anote, "second")

    @app.get("/")
    def view() -> str:
        tasks.add_task(log.append, "work")
        return "ok"

    get()
    assert log == ["work", "second", "first", "second", "first"]


def test_what_a_task_itself_adds_is_added(app: Flask, get: Get, our_log: OurLog) -> None:
    """And what it leaves behind is flushed; the task that does so may add tasks as well."""
    log: list[str] = []
    tasks = extension(app)

    def send(what: str) -> None:
        log.append(what)
        tasks.add_task(log.append, "own")

    def leave_behind() -> None:
        g.outbox = "mail"

    @app.teardown_appcontext
    def flush(_: BaseException | None) -> None:
        if "outbox" in g:
            tasks.add_task(send, g.outbox)

    @app.get("/")
    def view() -> str:
        tasks.add_task(leave_behind)
        return "ok"

    get()
    assert log == ["mail", "own"]
    with app.app_context(), tasks.queue() as queue:
        queue.add_task(leave_behind)
    assert drain(10) == []
    assert log == ["mail", "own"] * 2
    assert our_log.warnings == []
