"""The middleware: a queue for every request, shared with decorated views."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse

from bgadapters import BackgroundTasks, add_task
from bgadapters.django import background_tasks
from tests.django.serving import MIDDLEWARE, Site, body


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_middleware_gives_every_request_a_queue(everywhere: Site, kind: str) -> None:
    log: list[str] = []

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "request")
        add_task(log.append, "add_task")
        return body()

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    everywhere.serve(view if kind == "sync" else async_view, MIDDLEWARE=[MIDDLEWARE])
    assert everywhere.get().body == b"body"
    assert log == ["request", "add_task"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_decorator_and_middleware_share_one_queue(everywhere: Site, kind: str) -> None:
    log: list[str] = []
    queues: list[BackgroundTasks] = []

    def noting(get_response: Any) -> Any:
        def middleware(request: Any) -> Any:
            queues.append(request.background_tasks)
            add_task(log.append, "middleware")
            return get_response(request)

        return middleware

    def view(request: Any) -> HttpResponse:
        queues.append(request.background_tasks)
        add_task(log.append, "view")
        return body()

    @background_tasks
    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    everywhere.serve(
        background_tasks(view) if kind == "sync" else async_view,
        MIDDLEWARE=[MIDDLEWARE, register(noting)],
    )
    assert everywhere.get().body == b"body"
    assert queues[0] is queues[1]
    assert log == ["middleware", "view"]


def register(middleware: Any) -> str:
    """Give a middleware an import path, as ``settings.MIDDLEWARE`` asks for."""
    name = f"registered_{middleware.__name__}"
    globals()[name] = middleware
    return f"{__name__}.{name}"


def test_the_middleware_listed_twice_is_one_queue(everywhere: Site) -> None:
    log: list[str] = []

    def view(request: Any) -> HttpResponse:
        add_task(log.append, "task")
        return body()

    everywhere.serve(view, MIDDLEWARE=[MIDDLEWARE, MIDDLEWARE]).get()
    assert log == ["task"]
