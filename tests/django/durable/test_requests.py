"""Durable tasks of views: kept before the response begins, or in the view's own transaction."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception
from django.db import connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse

from bgadapters import StoreUnavailableError
from bgadapters.adapters import Change, Row
from bgadapters.django import background_tasks
from bgadapters.django.durable.models import StoredTask
from bgadapters.django.runtime import get_runtime
from bgadapters.stores.sqlite import SQLiteStore
from bgadapters.wsgi import BackgroundTasksMiddleware
from tests.django.durable import functions
from tests.django.durable.functions import called, fail, look, note
from tests.django.serving import MIDDLEWARE, Site, as_async
from tests.gateways import wsgi_calls

AWAY = "django://other"
"""A database that cannot be opened; see `away`."""


@pytest.fixture(autouse=True)
def _nothing_called() -> Iterator[None]:
    called.clear()
    yield
    called.clear()


@pytest.fixture
def store(alias: str) -> Iterator[dict[str, Any]]:
    """The settings with a store in a database."""
    yield {"STORE": f"django://{alias}"}
    get_runtime().close()


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in connections.settings:
        monkeypatch.setitem(connections.settings[each], "ATOMIC_REQUESTS", each == "default")


def rows(alias: str) -> list[StoredTask]:
    return list(StoredTask.objects.using(alias).order_by("position"))


def test_a_task_is_kept_while_it_runs_and_no_longer(
    handler: Site, serve: Any, alias: str, store: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(look, alias)
        assert rows(alias) == []
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=store).get().status == 200
    assert called == [True]
    assert rows(alias) == []


def test_of_an_async_view_as_well(handler: Site, serve: Any, alias: str, store: Any) -> None:
    async def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(look, alias)
        request.background_tasks.add_task(functions.anote, 1)
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=store).get().status == 200
    assert called == [True, 1]
    assert rows(alias) == []


def test_a_task_that_has_failed_stays(handler: Site, serve: Any, alias: str, store: Any) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(fail)
        return HttpResponse()

    serve(handler, view, BACKGROUND_TASKS=store).get()
    (row,) = rows(alias)
    assert row.state == "failed"
    assert "LookupError: no" in str(row.failure)


def test_the_row_is_written_in_the_transaction(
    handler: Site, serve: Any, alias: str, store: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        with transaction.atomic(alias):
            request.background_tasks.add_task(look, alias)
            assert len(rows(alias)) == 1
            with pytest.raises(LookupError), transaction.atomic(alias):
                request.background_tasks.add_task(note, "rolled back")
                assert len(rows(alias)) == 2
                raise LookupError
            assert len(rows(alias)) == 1
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=store).get().status == 200
    assert called == [True]
    assert rows(alias) == []


def test_a_rollback_leaves_neither_row_nor_task(
    handler: Site, serve: Any, alias: str, store: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        with pytest.raises(LookupError), transaction.atomic(alias):
            request.background_tasks.add_task(note, 1)
            raise LookupError
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=store).get().status == 200
    assert called == []
    assert rows(alias) == []


@pytest.mark.parametrize("options", [{"on_commit": False}, {"always": True}])
def test_what_runs_in_spite_of_a_rollback_is_kept_in_spite_of_it(
    handler: Site, serve: Any, alias: str, store: Any, options: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        with pytest.raises(LookupError), transaction.atomic(alias):
            request.background_tasks.options(**options).add_task(look, alias)
            assert rows(alias) == []
            raise LookupError
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=store).get().status == 200
    assert called == [True]
    assert rows(alias) == []


def test_with_atomic_requests_the_row_is_written_with_the_view(
    handler: Site, serve: Any, default: str, atomic_requests: None
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(look, "default")
        assert len(rows("default")) == 1
        return HttpResponse()

    serve(handler, view, BACKGROUND_TASKS={"STORE": "django"})
    assert handler.get().status == 200
    assert called == [True]
    get_runtime().close()


def _alone(part: Callable[[], str]) -> Iterator[str]:
    yield part()


async def _aalone(part: Callable[[], str]) -> AsyncIterator[str]:
    yield part()


def made_later(handler: Site, kind: str) -> Callable[[Any], Any]:
    """A view whose task is added when it has returned: by a stream or a template."""

    def view(request: Any) -> Any:
        def part() -> str:
            request.background_tasks.add_task(note, "run")
            return "part"

        if kind == "template":
            template = engines["django"].from_string("{{ part }}")
            return SimpleTemplateResponse(template, {"part": part})
        return StreamingHttpResponse(_alone(part) if handler.is_wsgi else _aalone(part))

    return view


class Recording(SQLiteStore):
    """Notes when tasks are kept."""

    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        found = super().write(rows, changes)
        if rows:
            called.append("kept")
        return found


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield {"STORE": Recording(f"sqlite:///{tmp_path}/tasks.db")}
    get_runtime().close()


def test_with_atomic_requests_another_store_keeps_after_the_commit(
    handler: Site, serve: Any, default: str, atomic_requests: None, recording: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(note, "run")
        transaction.on_commit(lambda: called.append("committed"))
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS=recording).get().status == 200
    assert called == ["committed", "kept", "run"]


def test_with_atomic_requests_nothing_is_kept_of_a_view_that_fails(
    handler: Site, serve: Any, default: str, atomic_requests: None, recording: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(note, "run")
        raise LookupError

    assert serve(handler, view, BACKGROUND_TASKS=recording).get().status == 500
    assert called == []


@pytest.mark.parametrize("kind", ["stream", "template"])
def test_what_is_made_later_is_kept_before_the_end(
    handler: Site, serve: Any, recording: Any, kind: str
) -> None:
    reply = serve(handler, made_later(handler, kind), BACKGROUND_TASKS=recording).get()
    assert (reply.status, reply.body) == (200, b"part")
    assert called == ["kept", "run"]


# A store that fails.


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """There is no such file, and no directory for it."""
    connections["other"].close()
    monkeypatch.setitem(connections.settings["other"], "NAME", "/no/such/directory/database")
    yield
    get_runtime().close()


@pytest.fixture
def signalled() -> Iterator[list[Any]]:
    """The exceptions of which Django's signal has told."""
    found: list[Any] = []

    def hear(**_: Any) -> None:
        found.append(type(sys.exception()))

    got_request_exception.connect(hear)
    yield found
    got_request_exception.disconnect(hear)


def adding(request: Any) -> HttpResponse:
    request.background_tasks.add_task(note, "run")
    return HttpResponse("added")


@pytest.mark.parametrize("is_async", [False, True])
def test_503_if_tasks_cannot_be_kept(
    away: None, handler: Site, serve: Any, signalled: list[Any], is_async: bool, caplog: Any
) -> None:
    view = as_async(adding) if is_async else adding
    reply = serve(handler, view, BACKGROUND_TASKS={"STORE": AWAY}).get()
    assert (reply.status, reply.body) == (503, b"Service Unavailable")
    assert reply.headers["Retry-After"] == "10"
    assert signalled == [StoreUnavailableError]
    assert called == []
    assert "A request is answered with 503" in caplog.text
    assert any(each.name == "django.request" for each in caplog.records)


def test_503_has_the_page_of_the_project(away: None, handler: Site, serve: Any) -> None:
    locmem = ("django.template.loaders.locmem.Loader", {"503.html": "later"})
    backend = "django.template.backends.django.DjangoTemplates"
    templates = [{"BACKEND": backend, "OPTIONS": {"loaders": [locmem]}}]
    settings = {"BACKGROUND_TASKS": {"STORE": AWAY}, "TEMPLATES": templates}
    reply = serve(handler, adding, **settings).get()
    assert (reply.status, reply.body) == (503, b"later")


def test_a_project_answers_by_its_own_handler(
    away: None, handler: Site, serve: Any, signalled: list[Any]
) -> None:
    serve(handler, adding, BACKGROUND_TASKS={"STORE": AWAY})
    handler.handle_500(lambda request: HttpResponse("ours", status=507))
    reply = handler.get()
    assert (reply.status, reply.body) == (507, b"ours")
    assert signalled == [StoreUnavailableError]
    assert called == []


def test_while_debugging_django_shows_the_error(away: None, handler: Site, serve: Any) -> None:
    reply = serve(handler, adding, BACKGROUND_TASKS={"STORE": AWAY}, DEBUG=True).get()
    assert reply.status == 500
    assert b"StoreUnavailableError" in reply.body


def test_what_the_view_has_committed_stays(
    away: None, handler: Site, serve: Any, default: str
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(note, "run")
        with transaction.atomic():
            StoredTask.objects.create(
                id="mine",
                queue_id="q",
                position=0,
                added=0,
                priority=0,
                attempt=1,
                crashes=0,
                is_recovered=False,
                state="failed",
            )
        return HttpResponse()

    assert serve(handler, view, BACKGROUND_TASKS={"STORE": AWAY}).get().status == 503
    assert [each.id for each in rows("default")] == ["mine"]


def test_503_where_the_gateway_has_the_queue(away: None, handler: Site, serve: Any) -> None:
    serve(handler, adding, BACKGROUND_TASKS={"STORE": AWAY})
    application = BackgroundTasksMiddleware(WSGIHandler(), runtime=get_runtime())
    assert wsgi_calls.serve(application).status == "503 Service Unavailable"
    assert called == []


@pytest.mark.parametrize("has_middleware", [True, False])
def test_a_store_that_fails_after_the_commit_of_atomic_requests(
    away: None,
    handler: Site,
    default: str,
    atomic_requests: None,
    signalled: list[Any],
    has_middleware: bool,
) -> None:
    """Only a middleware can answer there: what Django does by itself is 500."""
    middleware = [MIDDLEWARE] if has_middleware else []
    settings = {"BACKGROUND_TASKS": {"STORE": AWAY}, "MIDDLEWARE": middleware}
    reply = handler.serve(background_tasks(adding), **settings).get()
    assert reply.status == (503 if has_middleware else 500)
    assert signalled == [StoreUnavailableError]
    assert called == []


def test_a_store_that_fails_in_a_transaction_raises_in_the_view(
    handler: Site, serve: Any, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the transaction is committed."""

    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            StoredTask.objects.filter(id="before").update(name="changed")
            with connections["default"].cursor() as cursor:
                cursor.execute("ALTER TABLE bgadapters_durable_storedtask RENAME TO elsewhere")
            request.background_tasks.add_task(note, "run")
        return HttpResponse()

    settings = {"BACKGROUND_TASKS": {"STORE": "django"}}
    assert serve(handler, view, **settings).get().status == 503
    assert rows("default") == []
    assert called == []
    get_runtime().close()


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Django's, of the request
@pytest.mark.parametrize("kind", ["stream", "template"])
def test_a_store_that_fails_for_what_is_made_later(
    away: None, handler: Site, serve: Any, kind: str
) -> None:
    serve(handler, made_later(handler, kind), BACKGROUND_TASKS={"STORE": AWAY})
    if kind == "template":
        assert handler.get().status == 503
    else:
        with pytest.raises(StoreUnavailableError):  # the server breaks the response off
            handler.get()
        gc.collect()  # of the file of the request, while the warning is expected
    assert called == []
