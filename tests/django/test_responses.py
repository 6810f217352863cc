"""Whatever becomes of a response on its way out, its tasks run once or are discarded."""

from __future__ import annotations

import asyncio
import gc
import pickle
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response as RestResponse
from rest_framework.views import APIView

import bgadapters
from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import HOSTS, Site

Log = list[Any]
MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"


@pytest.fixture
def log() -> Log:
    return []


def add_both(request: Any, log: Log) -> None:
    request.background_tasks.add_task(log.append, "never")
    request.background_tasks.options(always=True).add_task(log.append, "always")


@pytest.mark.parametrize("error", [Http404, PermissionDenied, SuspiciousOperation, KeyError])
@pytest.mark.parametrize("kind", ["sync", "async", "middleware"])
def test_an_exception_discards_and_the_error_page_may_add(
    everywhere: Site,
    log: Log,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
    kind: str,
) -> None:
    def view(request: Any) -> HttpResponse:
        add_both(request, log)
        raise error

    @background_tasks
    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    def error_page(request: Any, exception: Any = None) -> HttpResponse:
        request.background_tasks.add_task(log.append, "page")
        return HttpResponse("page", status=500)

    views = {"sync": background_tasks(view), "async": async_view, "middleware": view}
    everywhere.serve(views[kind], MIDDLEWARE=[MIDDLEWARE] if kind == "middleware" else [])
    everywhere.handle_500(error_page)
    reply = everywhere.get()
    assert reply.status >= 400
    assert log == ["always", "page"] if error is KeyError else log == ["always"]
    discarded = [r.getMessage() for r in caplog.records if r.name == "bgadapters"]
    assert len(discarded) == 1
    assert "1 background task(s) discarded" in discarded[0]


def broken_outside(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        get_response(request)
        raise KeyError

    return middleware


def test_an_exception_in_a_middleware_above_discards(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_both(request, log)
        return HttpResponse()

    everywhere.serve(view, MIDDLEWARE=[f"{__name__}.broken_outside"])
    assert everywhere.get().status == 500
    assert log == ["always"]


def test_a_template_that_cannot_be_rendered_discards(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_both(request, log)
        return TemplateResponse(request, "nowhere.html")

    assert everywhere.serve(view).get().status == 500
    assert log == ["always"]


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


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("form", ["class", "method", "above", "below"])
def test_rest_framework(everywhere: Site, log: Log, form: str, fails: bool) -> None:
    """Its views answer exceptions by themselves, and mark what they answer with."""

    def respond(request: Any) -> RestResponse:
        add_both(request, log) if fails else request.background_tasks.add_task(log.append, "ran")
        if fails:
            raise ValidationError("no")
        return RestResponse({"fine": True})

    class View(APIView):  # type: ignore[misc]
        def get(self, request: Any) -> RestResponse:
            return respond(request)

    if form == "class":
        view = method_decorator(background_tasks, name="dispatch")(View).as_view()
    elif form == "method":
        View.get = method_decorator(background_tasks)(View.get)  # type: ignore[method-assign]
        view = View.as_view()
    elif form == "above":
        view = background_tasks(api_view(["GET"])(respond))
    else:
        view = api_view(["GET"])(background_tasks(respond))
    reply = everywhere.serve(view).get()
    assert reply.status == (400 if fails else 200)
    assert log == (["always"] if fails else ["ran"])


@pytest.mark.parametrize("fails", [False, True])
def test_ninja(site: Site, log: Log, fails: bool) -> None:
    api = NinjaAPI(urls_namespace=f"ninja-{fails}")

    @api.get("/items/{number}")
    @background_tasks
    def operation(request: Any, number: int) -> dict[str, int]:
        add_both(request, log) if fails else add_task(log.append, number)
        if fails:
            raise Http404
        return {"number": number}

    site.serve()
    urlpatterns, _, namespace = api.urls
    from django.conf import settings
    from django.urls import include, path

    settings.ROOT_URLCONF.urlpatterns.append(path("api/", include((urlpatterns, namespace))))
    assert site.get("/api/items/3").status == (404 if fails else 200)
    assert log == (["always"] if fails else [3])


def test_a_client_that_leaves_during_the_view_discards(log: Log) -> None:
    """Under ASGI Django cancels the view, and closes no response since there is none."""
    from django.core.handlers.asgi import ASGIHandler

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
