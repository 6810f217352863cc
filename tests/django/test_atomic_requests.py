"""``ATOMIC_REQUESTS``: tasks run if the view's transaction commits, and outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import HttpResponse

from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import Log, Site


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


def test_atomic_requests_is_not_for_tasks(
    site: Site, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)

    def task() -> None:
        log.append(connections["default"].in_atomic_block)

    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(task)
        task()
        return HttpResponse()

    site.serve(view).get()
    assert log == [True, False]
