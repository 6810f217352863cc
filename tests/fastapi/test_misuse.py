"""Mistakes of the first hour, and that what FastAPI is told says what to write."""

from __future__ import annotations

import typing
from typing import Annotated, Any

import fastapi
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.background import BackgroundTask

import bgadapters
from bgadapters.fastapi import BackgroundTasks, get_background_tasks


def the_root_s(tasks: bgadapters.BackgroundTasks) -> None: ...


def or_none(tasks: BackgroundTasks | None = None) -> None: ...


def the_root_s_by_depends(tasks: Annotated[Any, Depends(bgadapters.BackgroundTasks)]) -> None: ...


def by_depends(tasks: Annotated[Any, Depends(BackgroundTasks)]) -> None: ...  # pyright: ignore[reportArgumentType]


# Older ones do not ask pydantic about these, and so nobody can tell.
_IS_OLD = tuple(map(int, fastapi.__version__.split(".")[:2])) < (0, 165)


@pytest.mark.parametrize("view", [the_root_s, or_none, the_root_s_by_depends, by_depends])
def test_a_view_that_asks_in_the_wrong_way_says_how_to(view: Any) -> None:
    if _IS_OLD and view in {or_none, the_root_s_by_depends}:
        pytest.skip("this version of FastAPI does not ask for the type")
    with pytest.raises(TypeError, match=r"Import it from bgadapters\.fastapi") as refusal:
        FastAPI().add_api_route("/", view)
    assert "background_tasks: BackgroundTasks" in str(refusal.value)


def test_so_does_a_router() -> None:
    with pytest.raises(TypeError, match="background_tasks: BackgroundTasks"):
        APIRouter(dependencies=[Depends(BackgroundTasks)]).add_api_route("/", print)  # pyright: ignore[reportArgumentType]


def test_so_does_the_attribute_of_a_class_based_view() -> None:
    """Libraries for them read the annotations without what FastAPI goes by."""

    class View:
        tasks: BackgroundTasks

    hint = typing.get_type_hints(View)["tasks"]

    def view(tasks: Any) -> None: ...

    view.__annotations__["tasks"] = hint
    with pytest.raises(TypeError, match=r"Depends\(get_background_tasks\)"):
        FastAPI().add_api_route("/", view)


def test_there_it_is_asked_for_like_this() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    def view(tasks: Annotated[Any, Depends(get_background_tasks)]) -> None:
        tasks.add_task(log.append, "task")

    assert TestClient(app).get("/").status_code == 200
    assert log == ["task"]


def test_starlette_s_tasks_are_taken_as_fastapi_s_own_class_takes_them() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    def view() -> JSONResponse:
        tasks = BackgroundTasks([BackgroundTask(log.append, "first")])  # pyright: ignore[reportCallIssue]
        tasks.add_task(log.append, "second")
        assert [task.args for task in tasks.tasks] == [("first",), ("second",)]
        return JSONResponse({}, background=tasks)  # type: ignore[arg-type]

    assert TestClient(app).get("/").status_code == 200
    assert log == ["first", "second"]
