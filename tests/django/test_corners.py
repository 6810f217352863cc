"""What Django projects do beside the plain view: every mix of sync and async, and odd exits."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.contrib.syndication.views import Feed
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections, transaction
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.test import RequestFactory
from django.urls import include, path
from ninja import NinjaAPI
from ninja.errors import HttpError

import bgadapters
from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django.asgi import get_asgi_application
from tests.django.serving import Site
from tests.gateways import asgi_calls, wsgi_calls

Log = list[Any]
MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"


@pytest.fixture
def log() -> Log:
    return []


@pytest.fixture(params=["decorator", "middleware"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Site]:
    """Serve a view with a queue, had one way or the other."""

    def serve(site: Site, view: Any, *middleware: str, **settings: Any) -> Site:
        if request.param == "decorator":
            return site.serve(background_tasks(view), MIDDLEWARE=middleware, **settings)
        return site.serve(view, MIDDLEWARE=[MIDDLEWARE, *middleware], **settings)

    return serve


def as_async(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def async_view(request: Any) -> Any:
        return view(request)

    return async_view


def query() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("select 1")
        return cursor.fetchone()


@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("task_is", ["async", "async with a query", "sync around async"])
def test_a_task_may_be_of_another_kind_than_its_view(
    handler: Site, log: Log, serve: Any, view_is: str, task_is: str
) -> None:
    async def plain() -> None:
        await asyncio.sleep(0)
        log.append((1,))

    async def with_a_query() -> None:
        log.append(await sync_to_async(query)())

    def around() -> None:
        async_to_sync(with_a_query)()

    tasks = {"async": plain, "async with a query": with_a_query, "sync around async": around}

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(tasks[task_is])
        return HttpResponse("body")

    assert serve(handler, view if view_is == "sync" else as_async(view)).get().body == b"body"
    assert log == [(1,)]


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
        client = asgi_calls.Client(
            on_send=lambda message: log.append("sent") if asgi_calls.is_last(message) else None
        )
        await client.request(ASGIHandler())
        await bgadapters.adrain()

    with Site(lambda *_: pytest.fail("not called")) as site:
        serve(site, view if view_is == "sync" else as_async(view))
        asyncio.run(main())
    assert log == ["sent", "task"]


def test_under_asgi_an_async_task_may_query_long_after_its_request(log: Log) -> None:
    """Its request's thread is gone by then."""

    async def main() -> None:
        gate = asyncio.Event()

        async def task() -> None:
            await gate.wait()
            log.append(await sync_to_async(query)())

        @background_tasks
        def view(request: HttpRequest) -> HttpResponse:
            request.background_tasks.add_task(task)
            return HttpResponse()

        with Site(lambda *_: pytest.fail("not called")) as site:
            site.serve(view)
            await asgi_calls.Client().request(ASGIHandler())
            gate.set()
            await bgadapters.adrain()

    asyncio.run(main())
    assert log == [(1,)]


def test_a_failing_task_reaches_nobody(
    everywhere: Site, log: Log, serve: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise SystemExit(3)

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(fails)
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("body")

    assert serve(everywhere, view).get().body == b"body"
    assert log == ["ran"]
    assert [r.levelname for r in caplog.records if r.name == "bgadapters"] == ["ERROR"]


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


# Django consumes a stream of the other kind at once, and warns that it does.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
# It does not close the request's body where a stream breaks off under ASGI.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("stream_is", ["sync", "async"])
def test_a_stream_of_either_kind_from_a_view_of_either_kind(
    handler: Site, log: Log, serve: Any, view_is: str, stream_is: str, fails: bool
) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half "
        add_task(log.append, "added on the way")
        if fails:
            raise KeyError
        yield b"whole"

    async def achunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            await asyncio.sleep(0)
            yield chunk

    def view(request: Any) -> StreamingHttpResponse:
        request.background_tasks.add_task(log.append, "before")
        request.background_tasks.options(always=True).add_task(log.append, "always")
        return StreamingHttpResponse(chunks() if stream_is == "sync" else achunks())

    gzip = "django.middleware.gzip.GZipMiddleware"
    serve(handler, view if view_is == "sync" else as_async(view), gzip)
    if not fails:
        assert handler.get().body == b"half whole"
        assert log == ["before", "always", "added on the way"]
        return
    with pytest.raises(KeyError):
        handler.get()
    bgadapters.drain()
    gc.collect()  # a queue that was never released would warn
    assert log == ["always"]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
def test_a_file_runs_its_tasks_everywhere(everywhere: Site, log: Log, serve: Any) -> None:
    def view(request: Any) -> FileResponse:
        request.background_tasks.add_task(log.append, "ran")
        return FileResponse(BytesIO(b"content"), filename="content.txt")

    assert serve(everywhere, view).get().body == b"content"
    assert log == ["ran"]


def test_a_view_that_returns_nothing_discards(everywhere: Site, log: Log, serve: Any) -> None:
    def view(request: Any) -> None:
        request.background_tasks.add_task(log.append, "never")

    assert serve(everywhere, view).get().status == 500
    assert log == []


def test_an_error_page_may_add_tasks_through_add_task(
    everywhere: Site, log: Log, serve: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "never")
        raise KeyError

    @background_tasks
    def error_page(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "page")
        return HttpResponse("page", status=500)

    serve(everywhere, view).handle_500(error_page)
    assert everywhere.get().status == 500
    assert log == ["page"]


def answering(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that answers exceptions of the view, as those of web APIs do."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    middleware.process_exception = lambda _, exc: JsonResponse(  # type: ignore[attr-defined]
        {"error": str(exc)}, status=400
    )
    return middleware


@pytest.mark.parametrize("ours_is", ["no middleware", "the last middleware"])
def test_an_exception_answered_by_another_middleware_discards(
    everywhere: Site, log: Log, ours_is: str
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "never")
        raise KeyError

    other = f"{__name__}.answering"
    if ours_is == "no middleware":
        everywhere.serve(background_tasks(view), MIDDLEWARE=[other])
    else:
        everywhere.serve(view, MIDDLEWARE=[other, MIDDLEWARE])
    assert everywhere.get().status == 400
    assert log == []


class News(Feed):  # type: ignore[type-arg]
    """A view that is an object."""

    title, link, description = "News", "/", "Nothing"

    def __init__(self, log: Log) -> None:
        self.log = log

    def items(self) -> list[Any]:
        add_task(self.log.append, "ran")
        return []


def test_a_view_may_be_a_callable_object(everywhere: Site, log: Log, serve: Any) -> None:
    assert b"Nothing" in serve(everywhere, News(log)).get().body
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


def test_a_request_that_no_handler_answers_is_closed_by_hand(log: Log) -> None:
    """As in a unit test that calls the view with a request of ``RequestFactory``."""

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("body")

    request: Any = RequestFactory().get("/")
    assert view(request).content == b"body"
    bgadapters.drain()
    assert log == []
    request.close()
    bgadapters.drain()
    assert log == ["ran"]


@pytest.fixture
def table() -> Iterator[str]:
    """A table whose foreign key is checked only when its transaction is committed."""
    with connection.cursor() as cursor:
        cursor.execute("create table parent (id integer primary key)")
        cursor.execute(
            "create table child (id integer references parent (id) deferrable initially deferred)"
        )
    yield "child"
    with connection.cursor() as cursor:
        cursor.execute("drop table child")
        cursor.execute("drop table parent")
    connections.close_all()


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of a connection are read for each request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


@pytest.mark.parametrize("valid", [True, False])
def test_with_atomic_requests_tasks_run_if_the_view_is_committed(
    handler: Site, log: Log, serve: Any, table: str, atomic_requests: None, valid: bool
) -> None:
    """A commit that fails discards, although the view has returned."""

    def count() -> None:
        with connection.cursor() as cursor:
            log.append(cursor.execute("select count(*) from child").fetchone()[0])

    def view(request: Any) -> HttpResponse:
        assert connection.in_atomic_block
        request.background_tasks.add_task(count)
        with connection.cursor() as cursor:
            cursor.execute("insert into parent values (1)" if valid else "select 1")
            cursor.execute("insert into child values (1)")
        return HttpResponse()

    assert serve(handler, view).get().status == (200 if valid else 500)
    assert log == ([1] if valid else [])


def test_a_view_without_atomic_requests_stays_without(
    handler: Site, log: Log, atomic_requests: None
) -> None:
    @background_tasks
    @transaction.non_atomic_requests
    def view(request: HttpRequest) -> HttpResponse:
        log.append(connection.in_atomic_block)
        return HttpResponse()

    handler.serve(view).get()
    assert log == [False]


@pytest.mark.parametrize("operation_is", ["sync", "async"])
def test_ninja_operations_may_be_sync_and_async(
    handler: Site, log: Log, operation_is: str, request: pytest.FixtureRequest
) -> None:
    api = NinjaAPI(urls_namespace=request.node.name)

    def answer(number: int) -> dict[str, int]:
        add_task(log.append, number)
        if not number:
            raise HttpError(409, "none left")
        return {"number": number}

    @api.get("/sync/{number}")
    @background_tasks
    def operation(request: Any, number: int) -> dict[str, int]:
        return answer(number)

    @api.get("/async/{number}")
    @background_tasks
    async def async_operation(request: Any, number: int) -> dict[str, int]:
        return answer(number)

    handler.serve()
    urlpatterns, _, namespace = api.urls
    settings.ROOT_URLCONF.urlpatterns.append(path("api/", include((urlpatterns, namespace))))
    assert handler.get(f"/api/{operation_is}/3").body == b'{"number": 3}'
    assert handler.get(f"/api/{operation_is}/0").status == 409
    assert log == [3]


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
