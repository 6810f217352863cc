"""The connections that tasks use are closed, kept and counted as those of requests are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, TestCase

import bgadapters
from bgadapters import BackgroundTasks, add_task
from bgadapters.core.drivers import pool
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django import databases as databases_of_tasks
from bgadapters.django.runtime import get_runtime
from bgadapters.testing import run_tasks
from tests.django import databases
from tests.django.databases import ALIASES, needs_postgres
from tests.django.serving import Log, Site
from tests.gateways import asgi_calls
from tests.our_log import OurLog

WORKERS = 3


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let connections live for this many seconds: ``aged("postgres", 60)``."""

    def let_live(alias: str, seconds: int | None) -> None:
        monkeypatch.setitem(connections.settings[alias], "CONN_MAX_AGE", seconds)
        connections[alias].close()

    return let_live


def query(alias: str) -> tuple[int, Any]:
    """Use the database; return the thread and its connection, as the database knows it."""
    databases.select_one(alias)
    return threading.get_ident(), connections[alias].connection


def end_session(alias: str) -> None:
    """Have PostgreSQL end the connection that this thread has: this raises."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@contextmanager
def released() -> Iterator[BackgroundTasks]:
    with BackgroundTasks(runtime=get_runtime()) as tasks:
        yield tasks


@pytest.mark.parametrize("alias", ALIASES)
def test_connections_of_requests_age_are_closed_with_the_task(log: Log, alias: str) -> None:
    def task() -> None:
        log.append(connections[alias].connection)
        query(alias)

    with released() as tasks:
        for _ in range(3):
            tasks.add_task(task)
    bgadapters.drain()
    assert log == [None, None, None]


@pytest.mark.parametrize("alias", ALIASES)
def test_persistent_connections_are_kept_between_tasks_and_closed_at_rest(
    log: Log, aged: Callable[..., None], alias: str
) -> None:
    aged(alias, 60)
    kept: list[Any] = []

    def task() -> None:
        log.append(query(alias))
        kept.append(connections[alias])

    with released() as tasks:
        tasks.add_task(task)
        tasks.add_task(task)
    bgadapters.drain()
    assert log[0] == log[1]
    assert [connection.connection for connection in kept] == [None, None]


def test_a_worker_that_has_nothing_to_do_keeps_none(
    aged: Callable[..., None], monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    monkeypatch.setattr(pool, "IDLE", 0.01)
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": WORKERS})
    aged("default", None)
    closed = threading.Event()

    def task() -> None:
        query("default")
        connection: Any = connections["default"]
        original = connection.close

        def close() -> None:
            original()
            closed.set()

        connection.close = close

    with released() as tasks:
        tasks.add_task(task)
    assert closed.wait(10)


def test_a_worker_that_had_none_closes_its_first(site: Site, log: Log) -> None:
    """It looks for connections only where it may have some."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})
    with released() as tasks:
        tasks.add_task(threading.get_ident)
        tasks.add_task(lambda: log.append((query("default"), connections["default"])))
        tasks.add_task(lambda: log.append(connections["default"].connection))
        tasks.add_task(lambda: log.append((query("default"), connections["default"])))
    bgadapters.drain()
    (_, first), after, (_, second) = log
    assert first is second
    assert after is None
    assert second.connection is None


@pytest.mark.parametrize("alias", ALIASES)
@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_a_transaction_that_a_task_leaves_open_ends_with_it(
    site: Site, log: Log, alias: str, task_is: str, our_log: OurLog
) -> None:
    """Or the tasks after it would write into that transaction, and it would all be lost."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})

    def leaves_it_open(row: int) -> None:
        if row == 1:
            transaction.atomic(using=alias).__enter__()
        databases.insert(alias, name, row)
        log.append(threading.get_ident())

    async def aleaves_it_open(row: int) -> None:
        await sync_to_async(leaves_it_open)(row)

    with databases.table(alias) as name, released() as tasks:
        for row in (1, 2):
            tasks.add_task(aleaves_it_open if task_is == "async" else leaves_it_open, row)
        tasks.release()
        bgadapters.drain()
        assert databases.numbers(alias, name) == [2]
    assert len(set(log)) == 1
    assert our_log.messages == [
        f"A background task has left a transaction open on the database {alias!r}: "
        "it is rolled back"
    ]


@pytest.mark.parametrize("alias", ALIASES)
def test_async_tasks_share_one_connection_and_leave_none(log: Log, alias: str) -> None:
    """Though under ASGI each request has a thread of its own, and none is closed in mid-use."""
    used: list[Any] = []

    async def task() -> None:
        first = await sync_to_async(query)(alias)
        await asyncio.sleep(0.01)
        log.append((first, await sync_to_async(query)(alias)))
        used.append(await sync_to_async(lambda: connections[alias])())

    async def serve() -> None:
        async with BackgroundTasks(runtime=get_runtime()) as one:
            one.add_task(task)
            other = BackgroundTasks(runtime=get_runtime())
            other.add_task(task)
            other.release()
        await bgadapters.adrain()

    asyncio.run(serve())
    assert len(log) == 2
    assert log[0] == log[1]
    assert log[0][0] == log[0][1]
    assert [connection.connection for connection in used] == [None, None]


def test_a_connection_is_not_closed_while_an_async_task_uses_it(log: Log) -> None:
    """It may be in the middle of a cursor when another one ends."""
    first_query, other_ended = asyncio.Event(), asyncio.Event()

    async def task() -> None:
        log.append(await sync_to_async(query)("default"))
        first_query.set()
        await other_ended.wait()
        log.append(await sync_to_async(query)("default"))

    async def other() -> None:
        await first_query.wait()
        await sync_to_async(query)("default")

    async def serve() -> None:
        one, two = (BackgroundTasks(runtime=get_runtime()) for _ in range(2))
        one.add_task(task)
        two.add_task(other)
        one.release()
        await two.arelease()
        other_ended.set()
        await bgadapters.adrain()

    asyncio.run(serve())
    assert len(log) == 2
    assert log[0] == log[1]


def test_async_tasks_that_use_no_database_go_to_no_other_thread(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    async def task(*, uses_it: bool) -> None:
        if uses_it:
            await sync_to_async(query)("default")

    def hop(func: Callable[..., Any]) -> Any:
        log.append(func.__name__)
        return sync_to_async(func)

    async def serve(*uses: bool) -> None:
        async with BackgroundTasks(runtime=get_runtime()) as tasks:
            for uses_it in uses:
                tasks.add_task(task, uses_it=uses_it)

    asyncio.run(serve(True))
    monkeypatch.setattr(databases_of_tasks, "sync_to_async", hop)
    asyncio.run(serve(False, False))
    assert log == []
    asyncio.run(serve(True, False))
    assert log == ["_close"]


def test_a_task_that_is_cancelled_on_its_way_to_the_thread_has_left() -> None:
    occupied = threading.Event()

    async def task() -> None:
        runtime = get_runtime()
        assert runtime.hooks.ascope is not None
        async with runtime.hooks.ascope():
            pass  # pragma: no cover  it does not get here

    async def main() -> None:
        scope = databases_of_tasks.scope_of_this_loop()
        scope.may_have_some = True
        occupying = asyncio.create_task(sync_to_async(occupied.wait)(10))
        await asyncio.sleep(0)
        entering = asyncio.create_task(task())
        await asyncio.sleep(0)
        assert scope._users == 1
        entering.cancel()
        occupied.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        await occupying
        assert scope._users == 0

    asyncio.run(main())


def test_a_task_that_is_thrown_away_with_its_loop_has_left() -> None:
    """And is told nothing but that."""
    seen: list[BaseException] = []

    async def task() -> None:
        runtime = get_runtime()
        assert runtime.hooks.ascope is not None
        assert runtime.hooks.snapshot is not None
        runtime.hooks.snapshot()
        try:
            async with runtime.hooks.ascope():
                await asyncio.Event().wait()
        except BaseException as exc:
            seen.append(exc)
            raise

    async def main() -> None:
        scope = databases_of_tasks.scope_of_this_loop()
        scope.may_have_some = False
        thrown_away = task()
        thrown_away.send(None)
        assert scope._users == 1
        scope.may_have_some = True
        thrown_away.close()
        assert scope._users == 0

    asyncio.run(main())
    assert [type(exc) for exc in seen] == [GeneratorExit]


def test_what_comes_before_the_last_has_been_put_away(aged: Callable[..., None], log: Log) -> None:
    """In two loops, of which neither knows how far the other is."""
    aged("default", None)
    scope = databases_of_tasks.ConnectionScope(is_shared=False)
    scope._open()
    query("default")
    scope._users = 1
    scope._close()
    assert connections["default"].connection is not None
    scope._open()
    assert connections["default"].connection is None


@needs_postgres
def test_a_connection_that_breaks_while_async_tasks_use_it_is_replaced(log: Log) -> None:
    """Where there is always one of them, nobody else would do it."""
    broken, other_ended = asyncio.Event(), asyncio.Event()

    def break_it() -> None:
        query("postgres")
        with pytest.raises(OperationalError):
            end_session("postgres")

    async def task() -> None:
        await sync_to_async(break_it)()
        broken.set()
        await other_ended.wait()

    async def other() -> None:
        log.append(await sync_to_async(query)("postgres"))

    async def serve() -> None:
        one, two = (BackgroundTasks(runtime=get_runtime()) for _ in range(2))
        one.add_task(task)
        two.add_task(other)
        one.release()
        await broken.wait()
        await two.arelease()
        other_ended.set()
        await bgadapters.adrain()

    asyncio.run(serve())
    assert len(log) == 1


def test_async_tasks_of_many_requests_share_one_thread(site: Site, log: Log) -> None:
    """Though Django's ASGI handler gives each request a thread of its own."""
    requests = 5
    everyone = asyncio.Event()

    async def task() -> None:
        log.append(await sync_to_async(threading.get_ident)())
        if len(log) == requests:
            everyone.set()
        await everyone.wait()
        log.append(await sync_to_async(threading.get_ident)())

    @background_tasks
    async def view(request: Any) -> HttpResponse:
        add_task(task)
        return HttpResponse()

    async def serve() -> None:
        handler = ASGIHandler()
        scope = asgi_calls.http_scope("/")
        await asyncio.gather(
            *(asgi_calls.Client().request(handler, dict(scope)) for _ in range(requests))
        )
        await bgadapters.adrain()

    site.serve(view)
    asyncio.run(serve())
    assert len(log) == 2 * requests
    assert len(set(log)) == 1


@needs_postgres
def test_broken_connections_are_replaced(log: Log, aged: Callable[..., None]) -> None:
    aged("postgres", 60)

    def ended() -> None:
        query("postgres")
        end_session("postgres")

    def task() -> None:
        log.append(query("postgres")[0])

    with released() as tasks:
        tasks.add_task(ended)
        tasks.add_task(task)
    bgadapters.drain()
    assert len(log) == 1


@needs_postgres
@pytest.mark.parametrize("max_age", [0, 60])
def test_there_are_never_more_connections_than_workers(
    site: Site, aged: Callable[..., None], max_age: int
) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": WORKERS})
    aged("postgres", max_age)
    name = f"bgadapters-{threading.get_ident()}"
    counted: list[int] = []

    def count() -> None:
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SET application_name = %s", [name])
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name]
            )
            counted.append(cursor.fetchone()[0])

    async def acount() -> None:
        await sync_to_async(count)()

    @background_tasks
    def view(request: Any) -> HttpResponse:
        for task in (count, acount, count):
            add_task(task)
        return HttpResponse()

    site.serve(view)
    clients = [threading.Thread(target=lambda: Client().get("/")) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    bgadapters.drain()
    assert len(counted) == 60
    # A connection that was closed is counted until the database has noticed.
    assert max(counted) <= (WORKERS + 1) * (1 if max_age else 2)
    with connections["postgres"].cursor() as cursor:
        for _ in range(1000):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name]
            )
            if cursor.fetchone()[0] == 0:
                return
    pytest.fail("connections are left")


class TestQueries(TestCase):
    def test_those_of_a_task_are_not_counted_as_the_requests(self) -> None:
        @background_tasks
        def view(request: Any) -> HttpResponse:
            query("default")
            add_task(query, "default")
            add_task(aquery)
            return HttpResponse()

        async def aquery() -> None:
            await sync_to_async(query)("default")

        with run_tasks() as tasks, self.assertNumQueries(2):
            view(RequestFactory().get("/"))
            query("default")
        assert [task.outcome for task in tasks.tasks] == ["succeeded", "succeeded"]


@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_a_task_leaves_no_connection_open(handler: Site, log: Log, task_is: str) -> None:
    """As after a request: with CONN_MAX_AGE 0 it is closed, in the thread that has used it."""

    def query() -> None:
        log.append(databases.select_one())
        used.append(connections["default"])

    async def aquery() -> None:
        await sync_to_async(query)()

    used: list[Any] = []

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(aquery if task_is == "async" else query)
        return HttpResponse()

    handler.serve(view).get()
    assert log == [(1,)]
    assert [wrapper.connection for wrapper in used] == [None]


def test_a_connection_in_a_transaction_is_left_alone() -> None:
    """A test's own transaction, in whose thread an async task may query."""
    from django.db import transaction

    from bgadapters.django.databases import close_old_connections

    with transaction.atomic():
        close_old_connections()
        assert connection.connection is not None
    connection.close()


def test_under_asgi_an_async_task_may_query_long_after_its_request(log: Log) -> None:
    """Its request's thread is gone by then."""

    async def main() -> None:
        gate = asyncio.Event()

        async def task() -> None:
            await gate.wait()
            log.append(await sync_to_async(databases.select_one)())

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
