"""Responses in a test, whose client may call a view by hand or never close what it gets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.db import connections, transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, Client, RequestFactory
from django.urls import resolve
from ninja import NinjaAPI, Router
from ninja.testing import TestAsyncClient, TestClient

from bgadapters import NoResponseError, add_task
from bgadapters.django import background_tasks
from bgadapters.testing import Recorder, run_tasks
from bgadapters.testing import django as testing
from tests.django.serving import MIDDLEWARE, Log, Site
from tests.gateways import wsgi_calls
from tests.views import add_both


@pytest.fixture(autouse=True)
def tasks(log: Log) -> Iterator[Recorder]:
    with run_tasks() as recorder:
        yield recorder
    with pytest.raises(NoResponseError):
        add_task(log.append, "refused")


def adding(log: Log) -> Any:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "by request")
        add_task(log.append, "by add_task")
        return HttpResponse("body")

    return view


ADDED = ["by request", "by add_task"]


def test_a_request_by_hand_with_the_match_of_its_url(site: Site, log: Log) -> None:
    """Which views and versioning schemes ask for; a handler would have set it."""
    view = adding(log)
    site.serve(view)
    request = RequestFactory().get("/")
    request.resolver_match = resolve("/")
    view(request)
    assert log == ADDED


def test_a_signal_that_tells_of_no_request(log: Log) -> None:
    request_started.send(sender=None)
    adding(log)(RequestFactory().get("/"))
    assert log == ADDED


def test_a_request_by_hand_that_is_used_twice(log: Log) -> None:
    view = adding(log)
    request = RequestFactory().get("/")
    for _ in range(2):
        view(request)
    assert log == ADDED * 2


def test_an_async_view_by_hand(log: Log) -> None:
    @background_tasks
    async def view(request: Any) -> HttpResponse:
        add_task(log.append, "ran")
        return HttpResponse()

    async def main() -> None:
        for request in (AsyncRequestFactory().get("/"), RequestFactory().get("/")):
            await view(request)

    asyncio.run(main())
    assert log == ["ran", "ran"]


@pytest.mark.parametrize("stream_is", ["sync", "async"])
def test_a_stream_by_hand_runs_its_tasks_at_its_end(log: Log, stream_is: str) -> None:
    @background_tasks
    def view(request: Any) -> StreamingHttpResponse:
        def chunks() -> Any:
            yield b"first"
            add_task(log.append, "ran")

        async def achunks() -> AsyncIterator[bytes]:
            for chunk in chunks():
                yield chunk

        if stream_is == "sync":
            return StreamingHttpResponse(chunks())
        return StreamingHttpResponse(achunks())

    async def main(response: Any) -> bytes:
        return b"".join([chunk async for chunk in response])

    response: Any = view(RequestFactory().get("/"))
    body = response.getvalue() if stream_is == "sync" else asyncio.run(main(response))
    assert (body, log) == (b"first", ["ran"])


def test_a_view_by_hand_that_fails(log: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise Http404

    with pytest.raises(Http404):
        view(RequestFactory().get("/"))
    assert log == ["always"]


def test_ninjas_clients(log: Log, tasks: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their request is a mock, of which no handler knows."""
    monkeypatch.setenv("NINJA_SKIP_REGISTRY", "yes")  # older ones refuse two clients of an API
    router = Router()

    @router.get("/sync")
    @background_tasks
    def operation(request: Any) -> dict[str, int]:
        request.background_tasks.add_task(log.append, "sync")
        return {}

    @router.get("/async")
    @background_tasks
    async def async_operation(request: Any) -> dict[str, int]:
        request.background_tasks.add_task(log.append, "async")
        add_task(log.append, "by add_task")
        return {}

    async def main() -> Any:
        return await TestAsyncClient(api).get("/async")

    api = NinjaAPI(urls_namespace="in-tests")
    api.add_router("", router)
    assert TestClient(api).get("/sync").status_code == 200
    assert asyncio.run(main()).status_code == 200
    assert log == ["sync", "async", "by add_task"]
    assert [task.outcome for task in tasks.tasks] == ["succeeded"] * 3


def never_closed(path: str = "/") -> wsgi_calls.Exchange:
    """Read a response to its end, and forget it."""
    exchange = wsgi_calls.begin(WSGIHandler(), wsgi_calls.environ("GET", path))
    exchange.read()
    return exchange


def test_a_client_of_the_application_that_never_closes(site: Site, log: Log, serve: Any) -> None:
    serve(site, adding(log))
    assert never_closed().received == b"body"
    assert log == ADDED


@pytest.mark.parametrize("server", ["", "a test's"])
def test_a_failure_that_nobody_closes(site: Site, log: Log, serve: Any, server: str) -> None:
    """Not even the decorator sees the page; a server is left to close it."""

    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise Http404

    serve(site, view)
    env = wsgi_calls.environ()
    if server:
        env["SERVER_SOFTWARE"] = server
    exchange = wsgi_calls.begin(WSGIHandler(), env)
    exchange.read()
    assert log == ([] if server else ["always"])
    exchange.close()
    assert log == ["always"]


def test_such_a_response_is_rendered_first(site: Site, log: Log) -> None:
    def total() -> int:
        add_task(log.append, "counted")
        return 7

    @background_tasks
    def view(request: Any) -> HttpResponse:
        page = engines["django"].from_string("{{ total }}")
        return TemplateResponse(request, page, {"total": total})

    site.serve(view)
    assert never_closed().received == b"7"
    assert log == ["counted"]


def test_such_a_response_is_committed_first(
    site: Site, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    @background_tasks
    def view(request: Any) -> HttpResponse:
        transaction.on_commit(lambda: add_task(log.append, "hooked"))
        add_task(log.append, "added")
        return HttpResponse()

    site.serve(view)
    never_closed()
    assert log == ["added", "hooked"]


@pytest.mark.parametrize("error", [Http404, KeyError])
def test_a_handler_that_propagates_exceptions(
    site: Site, log: Log, serve: Any, error: type[Exception]
) -> None:
    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise error

    serve(site, view, DEBUG_PROPAGATE_EXCEPTIONS=True)
    if error is KeyError:
        with pytest.raises(KeyError):
            Client().get("/")
    else:
        assert Client().get("/").status_code == 404
    assert log == ["always"]


def test_where_django_is_imported_in_the_middle_of_a_test(
    site: Site, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests before that are known by their URL."""
    monkeypatch.setattr(testing, "_is_listening", False)
    monkeypatch.delitem(sys.modules, "django.core.signals")
    view = adding(log)
    with run_tasks():
        view(RequestFactory().get("/"))
    assert log == ADDED
    monkeypatch.undo()
    site.serve(view, MIDDLEWARE=[MIDDLEWARE])
    Client().get("/")
    assert log == ADDED * 2
