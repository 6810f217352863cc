"""A client that leaves during the view, under ASGI."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse

import bgadapters
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django.asgi import get_asgi_application
from tests.django.serving import Log, Site
from tests.gateways import asgi_calls


def test_a_client_that_leaves_during_the_view_discards(log: Log) -> None:
    """Under ASGI Django cancels the view, and closes no response since there is none."""

    from tests.gateways import asgi_calls

    started = asyncio.Event()

    @background_tasks
    async def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "never")
        started.set()
        await asyncio.Event().wait()
        return HttpResponse()

    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await started.wait()
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nobody is there")

    async def main() -> None:
        await ASGIHandler()(asgi_calls.http_scope("/", "GET", {}), receive, send)
        await bgadapters.adrain()

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())
    assert log == []


@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_with_our_asgi_application_a_client_that_leaves_during_the_view_costs_no_always_task(
    log: Log, view_is: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no response to run the others for."""
    go_on = threading.Event()

    async def main() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def add(request: Any) -> None:
            request.background_tasks.add_task(log.append, "never")
            request.background_tasks.options(always=True).add_task(log.append, "always")
            loop.call_soon_threadsafe(started.set)

        @background_tasks
        def view(request: HttpRequest) -> HttpResponse:
            add(request)
            go_on.wait(10)
            return HttpResponse()

        @background_tasks
        async def async_view(request: HttpRequest) -> HttpResponse:
            add(request)
            await asyncio.Event().wait()
            return HttpResponse()

        with Site(lambda *_: pytest.fail("not called")) as site:
            site.serve(view if view_is == "sync" else async_view)
            client = asgi_calls.Client(on_send=lambda _: pytest.fail("nobody is there"))
            call = asyncio.ensure_future(client.request(get_asgi_application()))
            await started.wait()
            client.left.set()
            await asgi_calls.others_wait()
            go_on.set()
            await call
            await bgadapters.adrain()

    monkeypatch.setattr("django.setup", lambda **_: None)
    asyncio.run(main())
    gc.collect()
    assert log == ["always"]
