"""A connection goes back as it came: the next task in that thread sees nothing of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

import bgadapters
from bgadapters import BackgroundTasks
from bgadapters.django import sessions
from bgadapters.django.runtime import get_runtime
from tests.django.databases import needs_postgres, select_one
from tests.django.serving import Log, Site
from tests.django.stateful_backend.base import Tenant


@pytest.fixture(autouse=True)
def _one_worker(site: Site) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 1})


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Change the settings of a database: ``use("default", CONN_MAX_AGE=60)``."""
    changed: set[str] = set()

    def change(alias: str, **settings: Any) -> None:
        if alias not in connections.settings:
            settings = {**connections.settings["default"], **settings}
            monkeypatch.setitem(connections.settings, alias, settings)
        for name, value in settings.items():
            monkeypatch.setitem(connections.settings[alias], name, value)
        changed.add(alias)
        forget()

    def forget() -> None:
        for alias in changed:
            connections[alias].close()
            del connections[alias]
        sessions.may_keep_state.cache_clear()
        sessions._own_state.cache_clear()

    yield change
    forget()


def run(*tasks: Callable[[], object]) -> None:
    """Run tasks in one worker, one after the other."""
    with BackgroundTasks(runtime=get_runtime()) as queue:
        for task in tasks:
            queue.add_task(task)
    assert bgadapters.drain() == []


def asks(alias: str, query: Any, log: Log | None = None) -> Callable[[], None]:
    def task() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(query)
            if log is not None:
                log.append(cursor.fetchone())

    return task


PID = "SELECT pg_backend_pid()"


def composed() -> Any:
    """As psycopg's manual has it for names that are not known before."""
    sql = pytest.importorskip("psycopg.sql")
    return sql.SQL("SET search_path TO {}").format(sql.Identifier("pg_catalog"))


CHANGES = [
    "SET search_path TO pg_catalog",
    "  set SESSION statement_timeout = 1000",
    "SET ROLE postgres",
    "SELECT 1; SET search_path TO pg_catalog",
    "SELECT set_config('app.tenant', 'one', false)",
    "CREATE TEMPORARY TABLE bgadapters_test (number integer)",
    "SELECT 1 AS number INTO TEMP bgadapters_test",
    "SELECT pg_advisory_lock(7)",
    "SELECT pg_try_advisory_lock ( 7 )",
    "LISTEN bgadapters_test",
    "DO $$ BEGIN PERFORM set_config('app.tenant', 'one', false); END $$",
    "composed",
]
HARMLESS = [
    "SELECT 'a set of names', set_masklen('10.0.0.0/8', 16)",
    "SET LOCAL search_path TO pg_catalog",
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SELECT pg_advisory_xact_lock(7)",
    "SHOW search_path",
]


@needs_postgres
@pytest.mark.parametrize("change", CHANGES)
def test_a_session_that_a_task_has_changed_ends_with_it(
    use: Callable[..., None], log: Log, change: str
) -> None:
    use("postgres", CONN_MAX_AGE=None)
    asked = asks("postgres", PID, log)
    run(asked, asks("postgres", composed() if change == "composed" else change), asked, asked)
    first, second, third = log
    assert first != second
    assert second == third  # the watch goes on with a new connection, and counts anew


@needs_postgres
@pytest.mark.parametrize("query", HARMLESS)
def test_one_that_it_has_merely_used_is_kept(
    use: Callable[..., None], log: Log, query: str
) -> None:
    use("postgres", CONN_MAX_AGE=60)
    asked = asks("postgres", PID, log)
    run(asked, asks("postgres", query), asked)
    assert log[0] == log[1]


@needs_postgres
def test_a_pool_is_not_given_a_session_that_a_task_has_changed(
    use: Callable[..., None], log: Log
) -> None:
    pytest.importorskip("psycopg_pool")
    use("postgres", OPTIONS={"pool": {"min_size": 1, "max_size": 1}})
    try:
        asked = asks("postgres", PID, log)
        run(asked, asked, asks("postgres", "SET search_path TO pg_catalog"), asked)
        assert log[0] == log[1]
        asks("postgres", "SHOW search_path", log)()
        connections["postgres"].close()
        assert log[2] != log[1]
        assert log[3] == ('"$user", public',)
    finally:
        pool: Any = connections["postgres"]
        pool.close_pool()


def test_the_watch_is_in_nobodys_way(use: Callable[..., None], log: Log) -> None:
    """Whoever has wrapped the execution before there was a connection removes his own wrapper."""
    use("default", CONN_MAX_AGE=None)

    def counting(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        log.append(sql)
        return execute(sql, params, many, context)

    def task() -> None:
        with connections["default"].execute_wrapper(counting):
            select_one()
        select_one()

    run(task, asks("default", "PRAGMA foreign_keys = OFF"), asks("default", "SELECT 2"))
    assert log == ["SELECT 1"]


def test_where_connections_end_with_the_task_and_outside_of_tasks_nobody_watches(
    use: Callable[..., None], log: Log
) -> None:
    def wrappers() -> None:
        select_one()
        log.append(list(connections["default"].execute_wrappers))

    run(wrappers)
    use("default", CONN_MAX_AGE=None)
    wrappers()
    assert log == [[], []]


BACKEND = "tests.django.stateful_backend"


def set_schema() -> None:
    connections["stateful"].schema = "one"  # type: ignore[attr-defined]


def set_tenant() -> None:
    connections["stateful"].tenant = Tenant("one")  # type: ignore[attr-defined]


@pytest.mark.parametrize("change", [set_schema, set_tenant])
@pytest.mark.parametrize("max_age", [0, None])
def test_what_a_backend_keeps_for_a_task_is_not_there_for_the_next(
    use: Callable[..., None], log: Log, change: Callable[[], None], max_age: int | None
) -> None:
    use("stateful", ENGINE=BACKEND, CONN_MAX_AGE=max_age)

    def look() -> None:
        connection: Any = connections["stateful"]
        log.append((connection.schema, connection.tenant.name))

    def uses_it() -> None:
        change()
        select_one("stateful")

    run(look, change, look, uses_it, look)
    assert log == 3 * [(None, "public")]


def test_a_connection_whose_backend_has_changed_nothing_is_kept(
    use: Callable[..., None], log: Log
) -> None:
    use("stateful", ENGINE=BACKEND, CONN_MAX_AGE=None)

    def task() -> None:
        select_one("stateful")
        log.append(connections["stateful"].connection)

    run(task, task)
    assert log[0] is log[1]


@pytest.mark.parametrize("engine", ["no.such.backend", "tests.django.bare_backend"])
def test_a_backend_that_tells_nothing_costs_no_task(
    use: Callable[..., None], monkeypatch: pytest.MonkeyPatch, log: Log, engine: str
) -> None:
    monkeypatch.setitem(
        connections.settings, "unused", {**connections.settings["default"], "ENGINE": engine}
    )
    use("default")
    run(lambda: log.append("ran"))
    assert log == ["ran"]


@needs_postgres
def test_a_session_that_its_task_has_ended_itself_is_over(
    use: Callable[..., None], log: Log
) -> None:
    use("postgres", CONN_MAX_AGE=None)

    def task() -> None:
        asks("postgres", "SET search_path TO pg_catalog")()
        connections["postgres"].close()

    asked = asks("postgres", PID, log)
    run(task, asked, asked)
    assert log[0] == log[1]
