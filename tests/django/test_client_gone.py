"""A client that leaves during the view, under ASGI."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextvars import Context, copy_context
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse, StreamingHttpResponse

import bgadapters
from bgadapters import NoResponseError, ResponseOutcome, add_task, current_task
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django.asgi import get_asgi_application
from tests.django.serving import MIDDLEWARE, Log, Site
from tests.gateways import asgi_calls
from tests.our_log import OurLog
from tests.views import add_both

# Django leaves the file of a body open where a client has left.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")


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


def test_with_our_asgi_application_tasks_are_told_that_the_client_left_during_a_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[ResponseOutcome | None] = []

    def note() -> None:
        task = current_task()
        assert task is not None
        seen.append(task.response)

    @background_tasks
    async def view(request: HttpRequest) -> StreamingHttpResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"part"
            await asyncio.Event().wait()

        request.background_tasks.add_task(note)
        return StreamingHttpResponse(parts())

    def leave(message: Any) -> None:
        if message.get("body"):
            client.left.set()

    async def main() -> None:
        await client.request(get_asgi_application())
        await bgadapters.adrain()

    monkeypatch.setattr("django.setup", lambda **_: None)
    client = asgi_calls.Client(on_send=leave)
    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())
    gc.collect()
    assert seen == [ResponseOutcome(200, None, True)]


@pytest.mark.parametrize("installed", ["decorator", "middleware"])
@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_under_plain_asgi_too(log: Log, our_log: OurLog, view_is: str, installed: str) -> None:
    """Django closes no response then: the end of its call does. Tasks that come late count too."""
    go_on = threading.Event()

    async def main() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def add(request: Any) -> None:
            request.background_tasks.add_task(log.append, "never")
            request.background_tasks.options(always=True).add_task(log.append, "always")
            loop.call_soon_threadsafe(started.set)

        def view(request: Any) -> HttpResponse:
            add(request)
            go_on.wait(10)
            request.background_tasks.options(always=True).add_task(log.append, "late")
            request.background_tasks.add_task(log.append, "never")
            return HttpResponse()

        async def async_view(request: Any) -> HttpResponse:
            add(request)
            await asyncio.Event().wait()
            return HttpResponse()

        chosen = view if view_is == "sync" else async_view
        with Site(lambda *_: pytest.fail("not called")) as site:
            if installed == "decorator":
                site.serve(background_tasks(chosen))
            else:
                site.serve(chosen, MIDDLEWARE=[MIDDLEWARE])
            client = asgi_calls.Client(on_send=lambda _: pytest.fail("nobody is there"))
            call = asyncio.ensure_future(client.request(ASGIHandler()))
            await started.wait()
            client.left.set()
            await asgi_calls.others_wait()
            go_on.set()
            await call
            await bgadapters.adrain()
            assert log == (["always", "late"] if view_is == "sync" else ["always"])

    asyncio.run(main())
    gc.collect()
    assert our_log.warnings
    assert all("response failed with" in said for said in our_log.warnings)


# Django does not close the request's body then, in some of its versions.
def test_a_call_that_the_server_cancels(log: Log) -> None:
    """Its view goes on in a task of its own, and nobody is left to close its response."""

    async def main() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        @background_tasks
        async def view(request: HttpRequest) -> HttpResponse:
            request.background_tasks.add_task(log.append, "never")
            request.background_tasks.options(always=True).add_task(log.append, "always")
            started.set()
            await go_on.wait()
            return HttpResponse()

        with Site(lambda *_: pytest.fail("not called")) as site:
            site.serve(view)
            call = asyncio.ensure_future(asgi_calls.Client().request(ASGIHandler()))
            await started.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            go_on.set()
            await asgi_calls.others_wait()
            await bgadapters.adrain()
            assert log == ["always"]

    asyncio.run(main())
    gc.collect()


# Django does not close the request's body where an exception reaches the server.
@pytest.mark.parametrize("error", [KeyError, SystemExit])
def test_an_exception_that_reaches_the_server(
    handler: Site, log: Log, serve: Any, error: type[BaseException]
) -> None:
    """No response comes of it that could be closed."""

    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise error

    if error is SystemExit and not handler.is_wsgi:
        pytest.skip("it would end the event loop")
    serve(handler, view, DEBUG_PROPAGATE_EXCEPTIONS=True)
    with pytest.raises(error):
        handler.get()
    bgadapters.drain()
    assert log == ["always"]
    with pytest.raises(NoResponseError):
        add_task(log.append, "refused")
    gc.collect()


@pytest.mark.parametrize("begins", ["after", "during"])
def test_a_request_that_is_begun_in_the_context_of_one_before_it(log: Log, begins: str) -> None:
    """As on a connection that is kept, if the server has begun to read again in a ``send``."""
    second = asgi_calls.Client()

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, request.GET["number"])
        return HttpResponse()

    def call(client: asgi_calls.Client, number: int) -> Any:
        scope = asgi_calls.http_scope("/", "GET", {}) | {"query_string": b"number=%d" % number}
        return client.request(ASGIHandler(), scope)

    class First(asgi_calls.Client):
        async def send(self, message: Any) -> None:
            await super().send(message)
            if asgi_calls.is_last(message):
                contexts.append(copy_context())
                if begins == "during":
                    later.append(asyncio.create_task(call(second, 2)))

    contexts: list[Context] = []
    later: list[asyncio.Task[Any]] = []

    async def main() -> None:
        await call(First(), 1)
        if begins == "after":
            later.append(asyncio.create_task(call(second, 2), context=contexts[0]))
        await later[0]
        await bgadapters.adrain()

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())
    assert second.status == 200
    assert log == ["1", "2"]
