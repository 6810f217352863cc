"""What of Django a task finds as it was in its request."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import get_script_prefix, get_urlconf, reverse, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from bgadapters import BackgroundTasks, add_task, drain
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django.runtime import get_runtime
from tests.django.serving import Log, Site
from tests.gateways import asgi_calls, wsgi_calls


@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_language_time_zone_and_urls_are_the_requests(
    handler: Site, view_is: str, task_is: str
) -> None:
    log: Log = []

    def task() -> None:
        log.append(
            (translation.get_language(), str(timezone.get_current_timezone()), reverse("root"))
        )

    async def atask() -> None:
        await asyncio.sleep(0)
        task()

    def respond() -> HttpResponse:
        with timezone.override("Asia/Tokyo"):
            add_task(atask if task_is == "async" else task)
        return HttpResponse()

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        return respond()

    @background_tasks
    async def async_view(request: HttpRequest) -> HttpResponse:
        return respond()

    middleware = ["django.middleware.locale.LocaleMiddleware"]
    handler.serve(view if view_is == "sync" else async_view, MIDDLEWARE=middleware)
    with translation.override("en"):  # the middleware leaves its own in this thread
        handler.get(accept_language="de")
    assert log == [("de", "Asia/Tokyo", "/")]


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_a_task_that_waits_keeps_nothing_of_its_request(
    site: Site, serve: Any, view_is: str, server: str
) -> None:
    go_on = threading.Event()
    requests: list[weakref.ref[Any]] = []
    log: Log = []

    def view(request: Any) -> HttpResponse:
        requests.append(weakref.ref(request))
        request.background_tasks.add_task(go_on.wait, 10)
        add_task(log.append, "ran")
        return HttpResponse()

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    async def main() -> None:
        await asgi_calls.Client().request(ASGIHandler())
        await asgi_calls.others_wait()

    serve(site, view if view_is == "sync" else async_view)
    asyncio.run(main()) if server == "asgi" else wsgi_calls.serve(WSGIHandler())
    gc.collect()
    assert [request() for request in requests] == [None]
    assert log == []
    go_on.set()
    drain()
    assert log == ["ran"]


@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_what_a_task_sets_is_for_that_task(task_is: str) -> None:
    seen: Log = []

    def state() -> tuple[Any, ...]:
        zone = timezone.get_current_timezone_name()
        return translation.get_language(), zone, get_urlconf(), get_script_prefix()

    def task() -> None:
        seen.append(state())
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")
        set_urlconf("tests.other")
        set_script_prefix("/other/")

    async def atask() -> None:
        task()

    def add() -> None:
        tasks.add_task(atask if task_is == "async" else task)

    tasks = BackgroundTasks(runtime=get_runtime())
    usual = state()
    add()
    with translation.override(None), timezone.override("Europe/Rome"):
        set_urlconf("tests.here")
        set_script_prefix("/here/")
        add()
        set_urlconf(None)
        set_script_prefix("/")
    add()
    tasks.release()
    drain()
    assert state() == usual
    assert seen == [usual, (None, "Europe/Rome", "tests.here", "/here/"), usual]


def test_what_django_keeps_is_looked_at_again_when_something_was_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: Log = []

    def look() -> str:
        looks.append(1)
        return "/"

    monkeypatch.setattr("bgadapters.django.runtime.get_script_prefix", look)
    tasks = BackgroundTasks(runtime=get_runtime())
    for _ in range(3):
        tasks.add_task(int)
    assert len(looks) == 1
    with translation.override("fr"):
        for _ in range(3):
            tasks.add_task(int)
    assert len(looks) == 2
    tasks.close(LookupError())


def test_what_cannot_be_compared_counts_as_set() -> None:
    class Array:
        def __eq__(self, _: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    variable: ContextVar[Array] = ContextVar("variable")
    seen: Log = []

    def add() -> None:
        for language in ("fr", "de"):
            variable.set(Array())
            with translation.override(language):
                tasks.add_task(lambda: seen.append(translation.get_language()))

    tasks = BackgroundTasks(runtime=get_runtime())
    copy_context().run(add)
    tasks.release()
    drain()
    assert seen == ["fr", "de"]


def test_a_thread_in_the_same_context_has_a_language_of_its_own() -> None:
    """What is set in one thread is not seen in another, though that has its context variables."""
    seen: Log = []

    def add() -> None:
        there.append(translation.get_language())
        tasks.add_task(lambda: seen.append(translation.get_language()))

    there: Log = []
    tasks = BackgroundTasks(runtime=get_runtime())
    with translation.override("fr"):
        add()
        beside = threading.Thread(target=copy_context().run, args=(add,))
        beside.start()
        beside.join()
        copy_context().run(add)
    tasks.release()
    drain()
    assert seen == there
