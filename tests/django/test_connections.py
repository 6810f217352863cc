"""The connections that tasks use are closed, kept and counted as those of requests are."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, TestCase

import bgadapters
from bgadapters import BackgroundTasks, add_task
from bgadapters.core.drivers import pool
from bgadapters.django import HttpRequest, background_tasks
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


def test_a_transaction_that_is_left_open_ends_whatever_the_log_does(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})

    def breaks(record: logging.LogRecord) -> bool:
        raise SystemExit

    def leaves_it_open(row: int) -> None:
        if row == 1:
            transaction.atomic().__enter__()
        databases.insert("default", name, row)

    log = logging.getLogger("bgadapters")
    log.addFilter(breaks)
    try:
        with databases.table("default") as name, released() as tasks:
            for row in (1, 2):
                tasks.add_task(leaves_it_open, row)
            tasks.release()
            bgadapters.drain()
            assert databases.numbers("default", name) == [2]
    finally:
        log.removeFilter(breaks)
    assert "has left a transaction open" in capsys.readouterr().err


@pytest.mark.parametrize("alias", ALIASES)
def test_each_async_task_has_a_connection_to_itself_and_leaves_none(log: Log, alias: str) -> None:
    """As each request has under ASGI. It keeps it while it is at work."""
    tasks = 3
    used: list[Any] = []

    async def task() -> None:
        first = await sync_to_async(query)(alias)
        used.append(await sync_to_async(lambda: connections[alias])())
        while len(used) < tasks:
            await asyncio.sleep(0)
        assert await sync_to_async(query)(alias) == first
        log.append(first)

    async def serve() -> None:
        for _ in range(tasks):
            with released() as queue:
                queue.add_task(task)
        await bgadapters.adrain()

    asyncio.run(serve())
    assert len({thread for thread, _ in log}) == tasks
    assert len({id(connection) for _, connection in log}) == tasks
    assert [connection.connection for connection in used] == [None] * tasks


@needs_postgres
def test_what_an_async_task_sets_on_its_connection_is_seen_by_no_other(log: Log) -> None:
    """A tenant, a role, a temporary table: neither at the same time nor afterwards."""
    setting = "bgadapters.tenant"
    have_set: list[str] = []

    def execute(sql: str, *args: Any) -> Any:
        with connections["postgres"].cursor() as cursor:
            cursor.execute(sql, args)
            return cursor.fetchone()[0]

    async def task(tenant: str) -> None:
        found = await sync_to_async(execute)("SELECT current_setting(%s, true)", setting)
        await sync_to_async(execute)("SELECT set_config(%s, %s, false)", setting, tenant)
        have_set.append(tenant)
        while len(have_set) % 3:
            await asyncio.sleep(0)
        seen = await sync_to_async(execute)("SELECT current_setting(%s)", setting)
        log.append((found or None, tenant == seen))

    async def serve() -> None:
        for _ in range(2):
            for tenant in ("one", "two", "three"):
                with released() as queue:
                    queue.add_task(task, tenant)
            await bgadapters.adrain()

    asyncio.run(serve())
    assert log == [(None, True)] * 6


def test_async_tasks_that_use_no_database_are_bounded_by_no_threads(site: Site, log: Log) -> None:
    """Nor do those that call plain functions count, except while they do."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 2})
    tasks = 10
    everybody: list[int] = []

    async def task(number: int) -> None:
        if number % 2:
            await sync_to_async(threading.get_ident)()
        everybody.append(number)
        while len(everybody) < tasks:
            await asyncio.sleep(0)
        if number % 2:
            await sync_to_async(log.append)(number)

    async def serve() -> None:
        for number in range(tasks):
            with released() as queue:
                queue.add_task(task, number)
        assert await bgadapters.adrain(10) == []

    asyncio.run(serve())
    assert sorted(log) == [1, 3, 5, 7, 9]


def test_an_async_task_waits_for_a_connection_when_there_are_as_many_as_may_be(
    site: Site, log: Log
) -> None:
    """The loop does not wait with it."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 2})
    gate = asyncio.Event()

    async def task(number: int) -> None:
        await sync_to_async(query)("default")
        log.append(number)
        if len(log) == 2:
            asyncio.get_running_loop().call_later(0.05, gate.set)
        await gate.wait()
        log.append("gate")

    async def serve() -> None:
        for number in range(3):
            with released() as queue:
                queue.add_task(task, number)
        await bgadapters.adrain()

    asyncio.run(serve())
    assert [each for each in log[:2] if each == "gate"] == []
    assert log[2] == "gate"
    assert sorted(map(str, log)) == ["0", "1", "2", "gate", "gate", "gate"]


def test_an_async_task_may_wait_for_tasks_of_its_own(site: Site, log: Log) -> None:
    """It keeps its connection meanwhile, and they need others."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})

    async def task(depth: int) -> None:
        first = await sync_to_async(query)("default")
        if depth < 3:
            async with BackgroundTasks(runtime=get_runtime()) as inner:
                inner.add_task(task, depth + 1)
        assert await sync_to_async(query)("default") == first
        log.append((depth, *first))

    async def serve() -> None:
        for _ in range(2):
            with released() as queue:
                queue.add_task(task, 0)
        assert await bgadapters.adrain(10) == []

    asyncio.run(serve())
    assert [depth for depth, *_ in log] == [3, 2, 1, 0] * 2
    assert len({thread for _, thread, _ in log}) == 4


def test_async_tasks_that_add_the_next_keep_none_of_those_before(site: Site) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})
    threads: list[Any] = []

    async def task(left: int) -> None:
        await sync_to_async(query)("default")
        context = SyncToAsync.thread_sensitive_context.get()
        threads.append(weakref.ref(SyncToAsync.context_to_thread_executor[context]))
        if left:
            with released() as queue:  # does not wait for it
                queue.add_task(task, left - 1)

    async def serve() -> None:
        with released() as queue:
            queue.add_task(task, 20)
        assert await bgadapters.adrain(10) == []

    asyncio.run(serve())
    assert len(threads) == 21
    deadline = time.monotonic() + 10
    while any(ref() for ref in threads):  # the last one may be about to end
        assert time.monotonic() < deadline
        gc.collect()


def test_what_an_async_task_has_left_behind_keeps_no_connection(site: Site, log: Log) -> None:
    """An asyncio task that outlives it may still query; nobody tells when that has ended."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})
    over = asyncio.Event()
    left_behind: list[asyncio.Task[None]] = []

    async def straggler() -> None:
        await over.wait()
        log.append(await sync_to_async(databases.select_one)())

    async def task() -> None:
        await sync_to_async(query)("default")
        left_behind.append(asyncio.create_task(straggler()))

    async def other() -> None:
        log.append(await sync_to_async(lambda: connections["default"].connection)())

    async def serve() -> None:
        async with BackgroundTasks(runtime=get_runtime()) as queue:
            queue.add_task(task)
        over.set()
        await left_behind[0]
        async with BackgroundTasks(runtime=get_runtime()) as queue:
            queue.add_task(other)

    asyncio.run(serve())
    assert log == [(1,), None]


def test_an_async_task_that_is_cancelled_gives_its_connection_back(site: Site, log: Log) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})
    occupied, over = threading.Event(), threading.Event()
    cancelled = asyncio.Event()

    def occupy() -> None:
        query("default")
        occupied.set()
        over.wait(10)

    async def task() -> None:
        await sync_to_async(occupy)()

    async def waits() -> None:
        try:
            await sync_to_async(log.append)("never")  # it is in the line for the thread
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def other() -> None:
        await sync_to_async(log.append)("other")

    async def serve() -> None:
        for each in (task, waits):
            with released() as queue:
                queue.add_task(each)
        await asyncio.to_thread(occupied.wait)
        abandoning = asyncio.create_task(bgadapters.adrain(0.05))
        await cancelled.wait()  # or the thread, once it is free, would come first
        over.set()
        assert len(await abandoning) == 2
        async with BackgroundTasks(runtime=get_runtime()) as queue:
            queue.add_task(other)

    asyncio.run(serve())
    assert log == ["other"]


def test_a_task_that_is_thrown_away_with_its_loop_gives_its_connection_back(site: Site) -> None:
    """And is told nothing but that."""
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})
    seen: list[BaseException] = []
    has_queried = threading.Event()
    used: list[Any] = []

    def use() -> None:
        query("default")
        used.append(connections["default"])

    async def task() -> None:
        runtime = get_runtime()
        assert runtime.hooks.ascope is not None
        try:
            async with runtime.hooks.ascope():
                await sync_to_async(use)()
                has_queried.set()
                await asyncio.Event().wait()
        except BaseException as exc:
            seen.append(exc)
            raise

    loop = asyncio.new_event_loop()
    steps = task()
    thrown_away = loop.create_task(steps)

    async def main() -> None:
        await asyncio.to_thread(has_queried.wait)
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    steps.close()
    assert [type(exc) for exc in seen] == [GeneratorExit]
    thrown_away.cancel()
    with suppress(asyncio.CancelledError, RuntimeError):  # it was awaited already
        loop.run_until_complete(thrown_away)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()

    async def other() -> None:
        await sync_to_async(query)("default")

    with released() as queue:
        queue.add_task(other)
    bgadapters.drain()
    assert [connection.connection for connection in used] == [None]


def test_a_forked_child_has_threads_of_its_own() -> None:
    async def task() -> None:
        await sync_to_async(databases.select_one)()

    def run() -> list[str]:
        with released() as queue:
            queue.add_task(task)
        return bgadapters.drain(10)

    assert run() == []
    pid = os.fork()
    if pid == 0:  # pragma: no cover  not measured there
        status = 1
        try:
            status = int(run() != [])
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def test_no_thread_can_be_had(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def task() -> None:
        try:
            await sync_to_async(query)("default")
        except RuntimeError as exc:
            log.append(str(exc))

    async def serve() -> None:
        async with BackgroundTasks(runtime=get_runtime()) as queue:
            queue.add_task(task)

    monkeypatch.setattr(pool.Pool, "submit", lambda *_: False)
    asyncio.run(serve())
    (only,) = log
    assert "make the background task a plain function" in only


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
def test_there_are_never_more_connections_than_may_be(
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
    # One for each worker, one for each async task at work, of which there are as many at most. A
    # connection that was closed is counted until the database has noticed.
    assert max(counted) <= 2 * WORKERS * 2
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


@pytest.fixture
def runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in the thread that releases them."""
    monkeypatch.setattr(pool.Pool, "submit", lambda *_: False)


@contextmanager
def full_backlog() -> Iterator[None]:
    in_flight = get_runtime().in_flight
    limit = get_runtime().settings.max_pending
    in_flight.reserve(limit)
    try:
        yield
    finally:
        in_flight.free(limit)


@needs_postgres
@pytest.mark.usefixtures("runs_here")
def test_a_thread_that_runs_tasks_keeps_its_own_connections(log: Log) -> None:
    """With a cursor in the database, an advisory lock, what was set, and a transaction."""

    def query_of_task() -> None:
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), current_setting('bgadapters.tenant', true)")
            log.append(cursor.fetchone())
            cursor.execute("SET bgadapters.tenant = 'the task'")

    def broken() -> None:
        transaction.atomic(using="postgres").__enter__()
        end_session("postgres")

    mine = connections["postgres"]
    with mine.cursor() as cursor, mine.chunked_cursor() as rows:
        cursor.execute("SELECT pg_backend_pid(), pg_advisory_lock(%s)", [threading.get_ident()])
        pid, _ = cursor.fetchone()
        cursor.execute("SET bgadapters.tenant = 'mine'")
        rows.execute("SELECT generate_series(1, 10)")
        assert rows.fetchone() == (1,)
        for _ in range(2):
            with released() as queue:
                queue.add_task(query_of_task)
                queue.options(name="broken").add_task(broken)
                queue.add_task(query_of_task)
        assert connections["postgres"] is mine
        assert [row for (row,) in rows] == list(range(2, 11))
        cursor.execute(
            "SELECT current_setting('bgadapters.tenant'), pg_advisory_unlock(%s)",
            [threading.get_ident()],
        )
        assert cursor.fetchone() == ("mine", True)
        assert not mine.errors_occurred
    mine.close()
    assert len(log) == 4
    assert {tenant or None for _, tenant in log} == {None}
    assert pid not in {other for other, _ in log}


@pytest.mark.usefixtures("runs_here")
@pytest.mark.parametrize("alias", ALIASES)
def test_a_thread_that_runs_tasks_keeps_its_transaction(log: Log, alias: str) -> None:
    with databases.table(alias) as name:
        with transaction.atomic(using=alias):
            assert databases.numbers(alias, name) == []
            with released() as queue:
                other = queue.options(on_commit=False)
                other.add_task(lambda: log.append(connections[alias].in_atomic_block))
                other.add_task(queue.add_task, int)  # which looks for transactions
                other.add_task(query, "no such database")
            assert connections[alias].in_atomic_block
            with released() as queue:
                queue.add_task(lambda: log.append(databases.numbers(alias, name)))
            assert queue.batch.is_held
            databases.insert(alias, name, 1)
        assert databases.numbers(alias, name) == [1]
    bgadapters.drain()
    assert log == [False, [1]]


def test_sync_code_in_asgirefs_one_thread_may_release_into_a_full_backlog(log: Log) -> None:
    """And drain there: async tasks need another thread."""

    async def task() -> None:
        log.append(await sync_to_async(databases.select_one)())

    def work() -> list[str]:
        with full_backlog():
            for _ in range(3):
                with released() as queue:
                    queue.add_task(task)
        assert len(log) == 3
        with released() as queue:
            queue.add_task(task)
        return bgadapters.drain()

    async def main() -> list[str]:
        return await sync_to_async(work)()

    assert asyncio.run(main()) == []
    assert log == [(1,)] * 4


def test_an_async_command_goes_on_where_its_tasks_query(log: Log) -> None:
    """Its connection, in asgiref's one thread, is its own."""

    async def task() -> None:
        log.append(await sync_to_async(threading.get_ident)())
        await sync_to_async(databases.select_one)()

    async def main() -> None:
        thread, mine = await sync_to_async(query)("default")
        for _ in range(2):
            async with BackgroundTasks(runtime=get_runtime()) as queue:
                queue.add_task(task)
        assert await sync_to_async(lambda: connections["default"].connection)() is mine
        assert thread not in log
        await sync_to_async(connections.close_all)()

    asyncio.run(main())
    assert len(log) == 2


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
