"""Every kind of response runs its tasks once, after it, whatever becomes of it on its way out."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import AsyncClient, Client
from django.views.decorators.cache import cache_page

import bgadapters
from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import HOSTS, Log, Site, as_async
from tests.gateways import asgi_calls, wsgi_calls


@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_returned_response_runs_its_tasks(everywhere: Site, log: Log, status: int) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse(status=status)

    assert everywhere.serve(view).get().status == status
    assert log == ["ran"]


def test_a_response_replaced_by_a_304_runs_its_tasks_once(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("content " * 100, headers={"ETag": '"same"'})

    names = ("http.ConditionalGetMiddleware", "gzip.GZipMiddleware")
    everywhere.serve(view, MIDDLEWARE=[f"django.middleware.{name}" for name in names])
    assert everywhere.get(if_none_match='"same"').status == 304
    assert everywhere.get(accept_encoding="gzip").headers["Content-Encoding"] == "gzip"
    assert log == ["ran", "ran"]


@pytest.mark.parametrize("place", ["above", "below"])
def test_a_cached_response_replays_no_task(site: Site, log: Log, place: str) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "ran")
        return HttpResponse("cached")

    cache.clear()
    cached = cache_page(60)
    site.serve(
        background_tasks(cached(view)) if place == "above" else cached(background_tasks(view))
    )
    assert [site.get().body, site.get().body] == [b"cached", b"cached"]
    assert log == ["ran"]


def test_a_request_does_not_wait_for_the_collector(log: Log) -> None:
    """Under WSGI; Django's ASGI handler and its test clients keep it longer by themselves."""

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "ran")
        requests.append(weakref.ref(request))
        return HttpResponse()

    requests: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        with Site(HOSTS["wsgi"]) as site:
            site.serve(view).get()
        assert log == ["ran"]
        assert requests[0]() is None
    finally:
        gc.enable()


def test_a_response_with_tasks_pickles(log: Log) -> None:
    responses: Log = []

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        response = HttpResponse("body")
        responses.append(pickle.loads(pickle.dumps(response)))
        return response

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        assert Client().get("/").content == b"body"
    bgadapters.drain()
    assert (responses[0].content, log) == (b"body", ["ran"])


def test_a_file_runs_its_tasks_and_stays_a_file(handler: Site, log: Log, tmp_path: Path) -> None:
    if not handler.is_wsgi:
        pytest.skip("Django warns that it must consume a file under ASGI")
    path = tmp_path / "file"
    path.write_bytes(b"content")

    @background_tasks
    def view(request: HttpRequest) -> FileResponse:
        request.background_tasks.add_task(log.append, "ran")
        response = FileResponse(path.open("rb"))
        responses.append(response)
        return response

    responses: list[FileResponse] = []
    assert handler.serve(view).get().body == b"content"
    assert log == ["ran"]
    assert responses[0].file_to_stream is not None


# Django does not close the request's body where a stream breaks off under ASGI.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream(handler: Site, log: Log, kind: str, fails: bool) -> None:
    """Its tasks run at its end; if it breaks off they are discarded."""

    def chunks() -> Iterator[bytes]:
        yield b"half "
        add_task(log.append, "added on the way")
        if fails:
            raise KeyError
        yield b"whole"

    async def achunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            yield chunk
            await asyncio.sleep(0)

    @background_tasks
    def view(request: HttpRequest) -> StreamingHttpResponse:
        request.background_tasks.add_task(log.append, "before")
        request.background_tasks.options(always=True).add_task(log.append, "always")
        return StreamingHttpResponse(chunks())

    @background_tasks
    async def async_view(request: HttpRequest) -> StreamingHttpResponse:
        request.background_tasks.add_task(log.append, "before")
        request.background_tasks.options(always=True).add_task(log.append, "always")
        return StreamingHttpResponse(achunks())

    handler.serve(view if kind == "sync" else async_view)
    if kind == "async" and handler.is_wsgi:
        pytest.skip("Django warns that it must consume an async stream under WSGI")
    if kind == "sync" and not handler.is_wsgi:
        pytest.skip("Django warns that it must consume a sync stream under ASGI")
    if fails:
        with pytest.raises(KeyError):
            handler.get()
        bgadapters.drain()
        gc.collect()
        assert log == ["always"]
    else:
        assert handler.get().body == b"half whole"
        assert log == ["before", "always", "added on the way"]


def test_the_async_client_needs_no_more_than_adrain(log: Log) -> None:
    @background_tasks
    async def view(request: HttpRequest) -> HttpResponse:
        async def task() -> None:
            log.append(asyncio.get_running_loop())

        request.background_tasks.add_task(task)
        return HttpResponse()

    async def main() -> None:
        await AsyncClient().get("/")
        await bgadapters.adrain()
        assert log == [asyncio.get_running_loop()]

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())


def test_under_wsgi_tasks_start_when_the_response_is_closed(log: Log) -> None:
    started = threading.Event()

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(started.set)
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("body")

    with Site(lambda *_: pytest.fail("not called")) as site:
        site.serve(view)
        exchange = wsgi_calls.begin(WSGIHandler(), wsgi_calls.environ("GET", "/"))
        assert exchange.read() == b"body"
        bgadapters.drain()
        assert not started.is_set()
        exchange.close()
        exchange.close()
        bgadapters.drain()
    assert log == ["ran"]


@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_under_asgi_tasks_start_after_the_last_byte(log: Log, serve: Any, view_is: str) -> None:
    async def task() -> None:
        log.append("task")

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(task)
        return HttpResponse("body")

    async def main() -> None:
        client = asgi_calls.noting(log)
        await client.request(ASGIHandler())
        await bgadapters.adrain()

    with Site(lambda *_: pytest.fail("not called")) as site:
        serve(site, view if view_is == "sync" else as_async(view))
        asyncio.run(main())
    assert log == ["sent", "task"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: HttpResponse(status=204),
        lambda: HttpResponseRedirect("/elsewhere"),
        lambda: JsonResponse({}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_responses_without_a_body_run_their_tasks(
    everywhere: Site, log: Log, make: Callable[[], HttpResponse], method: str
) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        return make()

    everywhere.serve(view).request(method)
    assert log == ["ran"]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_file_runs_its_tasks_everywhere(everywhere: Site, log: Log, serve: Any) -> None:
    def view(request: Any) -> FileResponse:
        request.background_tasks.add_task(log.append, "ran")
        return FileResponse(BytesIO(b"content"), filename="content.txt")

    assert serve(everywhere, view).get().body == b"content"
    assert log == ["ran"]


def test_a_full_backlog_loses_nothing(everywhere: Site, log: Log, serve: Any) -> None:
    def view(request: Any) -> HttpResponse:
        for number in range(5):
            request.background_tasks.add_task(log.append, number)
        return HttpResponse()

    serve(everywhere, view, BACKGROUND_TASKS={"MAX_PENDING": 2, "MAX_WORKERS": 1})
    everywhere.get()
    everywhere.get()
    assert log == [*range(5)] * 2
