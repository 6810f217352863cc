"""The setting TASK_MIDDLEWARE: for tasks of views, of queues and of Django's tasks framework."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils import translation

import bgadapters
from bgadapters import TaskInfo, TaskMiddleware
from bgadapters.django import BackgroundTasks, background_tasks
from bgadapters.django.runtime import get_runtime
from bgadapters.testing import capture_tasks
from tests.django import task_functions
from tests.django.serving import Site, body
from tests.django.task_frameworks import PACKAGES, Tasks, missing

PATH = "tests.django.test_task_middleware"
state = threading.local()
seen: list[Any] = []


class Tenant(TaskMiddleware):
    """What is kept in the thread of the view."""

    def capture(self, task: TaskInfo) -> Any:
        return getattr(state, "tenant", None)

    @contextmanager
    def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
        seen.append((task.func.__name__, task.args, captured))
        yield
        seen.append("out")


class InTheScope(TaskMiddleware):
    """What it is inside of."""

    @contextmanager
    def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
        seen.append(translation.get_language())
        yield


class NoManager:
    def around(self, task: TaskInfo) -> None: ...


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()
    task_functions.log.clear()


def use(site: Site, *names: str) -> None:
    site.set(BACKGROUND_TASKS={"TASK_MIDDLEWARE": [f"{PATH}.{name}" for name in names]})


def test_tasks_of_views_have_them_inside_of_djangos_scope(everywhere: Site) -> None:
    @background_tasks
    def view(request: Any) -> Any:
        state.tenant = "one"
        with translation.override("de"):
            request.background_tasks.add_task(task_functions.note, "sync")
            request.background_tasks.add_task(task_functions.anote, "async")
        state.tenant = None
        return body()

    use(everywhere, "Tenant", "InTheScope")
    everywhere.serve(view).get()
    assert task_functions.log == ["sync", "async"]
    assert seen == [
        *(("note", ("sync",), "one"), "de", "out"),
        *(("anote", ("async",), "one"), "de", "out"),
    ]


def test_the_tasks_of_a_queue_by_itself_have_them(site: Site) -> None:
    use(site, "Tenant")
    state.tenant = "two"
    with BackgroundTasks() as tasks:
        tasks.add_task(task_functions.note, "x")
    state.tenant = None
    assert bgadapters.drain() == []
    assert seen == [("note", ("x",), "two"), "out"]


@pytest.fixture(params=PACKAGES)
def framework(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    if why := missing(request.param):
        pytest.skip(why)
    with ExitStack() as stack:
        yield Tasks(request.param, lambda **s: stack.enter_context(override_settings(**s)))


@pytest.mark.parametrize("is_async", [False, True])
def test_enqueued_tasks_have_them(site: Site, framework: Tasks, is_async: bool) -> None:
    """The middleware sees the function and the arguments of the task."""
    use(site, "Tenant")
    func = task_functions.anote if is_async else task_functions.note
    task = framework.task(func)
    state.tenant = "three"
    result = task.enqueue("x")
    with BackgroundTasks() as tasks:
        tasks.add_task(task, "y")
    state.tenant = None
    assert bgadapters.drain() == []
    result.refresh()
    assert str(result.status) == "SUCCESSFUL"
    assert sorted(task_functions.log) == ["x", "y"]
    # That which enqueues "y" is a task itself, in whose thread no tenant is set.
    assert (func.__name__, ("x",), "three") in seen
    assert (func.__name__, ("y",), "three") in seen
    assert seen.count("out") == 3


def test_what_a_middleware_raises_fails_an_enqueued_task(site: Site, framework: Tasks) -> None:
    site.set(BACKGROUND_TASKS={"TASK_MIDDLEWARE": [lambda task: None]})
    result = framework.task(task_functions.note).enqueue("x")
    assert bgadapters.drain() == []
    result.refresh()
    assert str(result.status) == "FAILED"
    assert "task middleware" in result.errors[0].traceback
    assert task_functions.log == []


def test_tasks_that_a_test_has_captured_have_them(site: Site) -> None:
    use(site, "Tenant")
    with capture_tasks() as captured:
        state.tenant = "four"
        with BackgroundTasks() as tasks:
            tasks.add_task(task_functions.note, "x")
        state.tenant = None
        assert seen == []
        assert captured.run_pending() == 1
    assert seen == [("note", ("x",), "four"), "out"]


def test_one_that_cannot_be_used_is_named_at_start_up(site: Site) -> None:
    use(site, "NoManager")
    with pytest.raises(ImproperlyConfigured) as said:
        get_runtime()
    assert str(said.value).startswith("BACKGROUND_TASKS['TASK_MIDDLEWARE'][0]: <class ")
    assert "around() is called with the task and what was captured" in str(said.value)
