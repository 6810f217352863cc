"""What holds for every store, for that of SQLAlchemy; and what is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, create_engine, event, insert, make_url, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from bgadapters.adapters import SettingsError, StoreUnavailableError
from bgadapters.core.outbox.writer import Writer
from bgadapters.stores import Change, Store
from bgadapters.stores.sqlalchemy import SQLAlchemyStore, metadata_for
from tests.our_log import OurLog
from tests.stores.contract import Opened, Started, StoreContract, ids, numbers, row
from tests.stores.processes import Other, Place
from tests.stores.sql_databases import (
    DATABASES,
    LEASE,
    NEEDS,
    SERVERS,
    Proxy,
    engine,
    needs_postgresql,
    url_of,
)

PATIENCE = 30.0
SERVERS_THERE = [pytest.param(name, marks=NEEDS[name]) for name in SERVERS]


@pytest.fixture(params=DATABASES)
def url(request: Any, tmp_path: Path) -> Iterator[str]:
    with url_of(request.param, tmp_path) as url:
        yield url


@pytest.mark.slow  # processes that end, and leases
class TestContract(StoreContract):
    @pytest.fixture
    def place(self, url: str) -> Place:
        return Place(url, patience=LEASE + PATIENCE)

    # And what holds where owners have leases

    def test_what_a_process_has_done_that_stood_still_for_too_long_is_refused_and_named(
        self, store: Store, place: Place, started: Started
    ) -> None:
        other = started("other")
        other.write([row(1), row(2)])
        assert other.begin(row(1).id)
        other.stop()
        assert numbers(self.taken(store, place)) == [1, 2]
        other.go_on()
        assert other.write([], [Change(row(1).id, "delete")]) == [row(1).id]
        assert not other.begin(row(2).id)
        assert numbers(store.find()) == [1, 2]
        store.write((), [Change(row(1).id, "delete")])
        lost = other.write([], [Change(row(1).id, "delete"), Change(row(2).id, "again")])
        assert lost == [row(1).id, row(2).id]  # also what another one has ended by now

    def test_it_is_a_living_owner_again(self, store: Store, place: Place, started: Started) -> None:
        other = started("other")
        other.write([row(1)])
        other.stop()
        assert numbers(self.taken(store, place)) == [1]
        other.go_on()
        other.write([row(2, "b")])
        assert store.take_over(10) == []
        assert other.begin(row(2).id)

    @pytest.mark.parametrize("clock", ["be_a_day_ahead", "be_a_day_behind"])
    def test_the_clock_of_a_process_is_of_no_account(
        self, store: Store, place: Place, started: Started, clock: str
    ) -> None:
        place = place._replace(prepare=f"tests.stores.sql_databases:{clock}")
        off = Other(place)
        try:
            off.open("other")
            off.write([row(1)])
            store.write([row(2, "b")], ())
            assert store.take_over(10) == []
            assert off.take_over() == []
            off.kill()
            assert numbers(self.taken(store, place)) == [1]
            assert store.begin(row(2).id)
        finally:
            off.dispose()

    def test_an_owner_lives_while_it_does_nothing(self, url: str, opened: Opened) -> None:
        idle = SQLAlchemyStore(make_url(url).update_query_dict({"lease": "0.3"}))
        heard = threading.Event()

        def hear(_: object, __: object, statement: str, *___: object) -> None:
            if "owners SET expires" in statement and "UPDATE" in statement:
                renewals.append(statement)
                if len(renewals) > 6:
                    heard.set()

        renewals: list[str] = []
        event.listen(idle._engine, "before_cursor_execute", hear)
        idle.open("idle")
        try:
            assert heard.wait(PATIENCE)
        finally:
            idle.close()

    def test_what_was_not_there_is_no_loss_but_what_another_has_is(
        self, store: Store, opened: Opened
    ) -> None:
        another = opened("another")
        another.write([row(n) for n in range(1200)], ())
        changes = [Change(row(n).id, "delete") for n in range(1190, 1210)]
        assert store.write((), changes) == [row(n).id for n in range(1190, 1200)]
        assert another.write((), [Change(row(n).id, "delete") for n in range(1200)]) == []
        assert store.count() == {"waiting": 0, "failed": 0}


def test_several_that_start_at_once_make_the_tables(url: str) -> None:
    stores = [SQLAlchemyStore(url) for _ in range(8)]
    raised: list[BaseException] = []
    at_once = threading.Barrier(len(stores))

    def start(number: int) -> None:
        try:
            at_once.wait(PATIENCE)
            stores[number].open(f"owner{number}")
            stores[number].write([row(number)], ())
        except BaseException as exc:
            raised.append(exc)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert raised == []
        assert stores[0].count()["waiting"] == 8
    finally:
        for store in stores:
            store.close()


def test_alembic_may_make_the_tables(url: str) -> None:
    table = str(make_url(url).query["table"])
    store = SQLAlchemyStore(url)
    with engine(url) as found:
        metadata_for(table).create_all(found)
        made = MetaData()
        made.reflect(found, only=lambda name, _: name.startswith(table))
        assert set(made.tables) == set(store.metadata.tables) == set(metadata_for(table).tables)
    store.open("owner")
    store.close()


def test_tables_of_another_version_are_refused(url: str) -> None:
    store = SQLAlchemyStore(url)
    store.open("owner")
    store.close()
    with engine(url) as found, found.begin() as connection:
        schema = store.metadata.tables[f"{make_url(url).query['table']}_schema"]
        connection.execute(insert(schema).values(version=2))
    with pytest.raises(SettingsError, match="is of version 2, and this bgadapters knows version 1"):
        store.open("owner")
    store._engine.dispose()


@pytest.mark.parametrize("repetition", range(5))
def test_of_two_claims_at_a_time_one_counts(url: str, repetition: int) -> None:
    one, two = SQLAlchemyStore(url), SQLAlchemyStore(url)
    one.open("one")
    two.open("two")
    try:
        one.write([row(1, "a", key="K")], ())
        two.write([row(2, "b", key="K"), row(3, "b", key="k")], [Change(row(3).id, "claim")])
        at_once = threading.Barrier(2)

        def claim(store: Store, number: int) -> None:
            at_once.wait(PATIENCE)
            store.write((), [Change(row(number).id, "claim")])

        thread = threading.Thread(target=claim, args=(one, 1))
        thread.start()
        claim(two, 2)
        thread.join()
        found = one.find()
        assert len(found) == 2
        assert found[1] == row(3, "b", key="k")  # keys differ by their case
        assert one.begin(found[0].id) or two.begin(found[0].id)
    finally:
        one.close()
        two.close()


@pytest.mark.parametrize("name", SERVERS_THERE)
def test_nobody_waits_for_what_another_one_is_taking(name: str, tmp_path: Path) -> None:
    with url_of(name, tmp_path) as url, engine(url) as found:
        store, dead = SQLAlchemyStore(url), SQLAlchemyStore(url)
        store.open("store")
        dead.open("dead")
        dead.write([row(1, "a"), row(2, "a"), row(3, "b")], ())
        dead.close()
        tasks = store.metadata.tables[str(make_url(url).query["table"])]
        with found.connect() as another:
            first = select(tasks).where(tasks.c.id == row(1).id)
            another.execute(first.with_for_update())
            assert numbers(store.take_over(10)) == [3]  # nor is the queue divided
            another.rollback()
        assert numbers(store.take_over(10)) == [1, 2]
        store.close()


@pytest.mark.parametrize("name", SERVERS_THERE)
def test_connections_that_the_server_has_closed_are_replaced(name: str, tmp_path: Path) -> None:
    with url_of(name, tmp_path) as url:
        proxy = Proxy(url)
        store = SQLAlchemyStore(proxy.url)
        store.open("owner")
        try:
            store.write([row(1)], ())
            proxy.go_away()
            proxy.come_back()
            store.write([row(2)], [Change(row(1).id, "delete")])
            assert numbers(store.find()) == [2]
        finally:
            store.close()
            proxy.close()


@pytest.mark.parametrize("name", SERVERS_THERE)
def test_changes_are_kept_while_the_server_is_away(
    name: str, tmp_path: Path, our_log: OurLog
) -> None:
    with url_of(name, tmp_path, lease=60.0) as url:
        proxy = Proxy(url)
        store = SQLAlchemyStore(proxy.url)
        writer = Writer(store)
        writer.call(lambda: store.open("owner")).wait()
        try:
            writer.write([row(n) for n in range(20)]).wait()
            proxy.go_away()
            for n in range(10):
                writer.change(Change(row(n).id, "delete"))
            with pytest.raises(StoreUnavailableError):
                writer.write([row(100)]).wait()
            deadline = time.monotonic() + PATIENCE
            while not any("cannot be written" in each for each in our_log.messages):
                assert time.monotonic() < deadline
                time.sleep(0.01)  # changes wait a moment for others
            proxy.come_back()
            while store.count()["waiting"] != 10 and time.monotonic() < deadline:
                writer.flush().wait()
                time.sleep(0.05)  # it tries again once a second
            assert numbers(store.find()) == list(range(10, 20))
            writer.write([row(100)]).wait()
        finally:
            writer.flush().wait()
            writer.call(store.close).wait()
            proxy.close()
    (said,) = [each for each in our_log.messages if "cannot be written" in each]
    assert "is tried again" in said


@needs_postgresql
def test_backends_that_are_terminated_under_load_lose_nothing(tmp_path: Path) -> None:
    with url_of("postgresql", tmp_path) as url, engine(url) as found:
        store = SQLAlchemyStore(make_url(url).update_query_dict({"application_name": "loaded"}))
        writer = Writer(store)
        writer.call(lambda: store.open("owner")).wait()
        ended = threading.Event()
        kill = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE application_name = 'loaded'"
        )
        killed: list[int] = []

        def terminate() -> None:
            while not ended.wait(0.02):
                with found.connect() as connection:
                    killed.append(int(connection.scalar(kill) or 0))

        thread = threading.Thread(target=terminate)
        thread.start()
        kept: list[int] = []
        number = 0
        while sum(killed) < 10:
            number += 1
            try:
                writer.write([row(number)]).wait()
            except StoreUnavailableError:
                continue
            kept.append(number)
            if number % 2:
                writer.change(Change(row(number).id, "delete"))
        ended.set()
        thread.join()
        deadline = time.monotonic() + PATIENCE
        left, done = ({n for n in kept if n % 2 == odd} for odd in (0, 1))
        there = set(kept)
        while done & there and time.monotonic() < deadline:
            writer.flush().wait()
            there = set(numbers(store.find(limit=1_000_000)))
        assert left <= there
        assert not done & there
        writer.call(store.close).wait()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="the database of durable tasks: "):
        SQLAlchemyStore(f"sqlite+pysqlite:///{tmp_path}/nowhere/tasks.db").open("owner")
    with pytest.raises(StoreUnavailableError, match="no such table"):
        SQLAlchemyStore(f"sqlite+pysqlite:///{tmp_path}/tasks.db").count()


def test_what_a_task_is_given_is_in_no_error(url: str) -> None:
    store = SQLAlchemyStore(url)
    store.open("owner")
    try:
        secret = row(1, payload='"a secret"')
        store.write([secret], ())
        with pytest.raises(StoreUnavailableError) as raised:
            store.write([secret], ())
        chain = [raised.value, raised.value.__cause__]
        assert not [each for each in chain if "a secret" in str(each)]
    finally:
        store.close()


def test_an_engine_is_asked_how_to_connect_and_keeps_its_pool(url: str) -> None:
    connected: list[object] = []
    with engine(url) as given:
        event.listen(given, "do_connect", lambda *_: connected.append(1))
        table = str(make_url(url).query["table"])
        store = SQLAlchemyStore(given, table=table)
        store.open("owner")
        try:
            store.write([row(1)], ())
            assert connected
            assert given.pool.status() == create_engine(given.url).pool.status()
            assert ids(store.find()) == [row(1).id]
        finally:
            store.close()


MADE: dict[str, tuple[Callable[[], object], str]] = {
    "no URL": (lambda: SQLAlchemyStore("nonsense"), "the store of this URL cannot be used"),
    "no URL at all": (lambda: SQLAlchemyStore(5), "accepts a URL or an Engine, not 5"),  # type: ignore[arg-type]
    "no dialect": (
        lambda: SQLAlchemyStore("cobol://u:secret@host/db"),
        "SQLAlchemyStore knows postgresql, mysql, mariadb, sqlite, not 'cobol'",
    ),
    "another database": (lambda: SQLAlchemyStore("oracle+oracledb://host/db"), "not 'oracle'"),
    "no driver": (
        lambda: SQLAlchemyStore("postgresql+pg8000://u:secret@host/db"),
        r"the store 'postgresql\+pg8000://u:\*\*\*@host/db' cannot be used: No module named 'pg8",
    ),
    "async driver": (
        lambda: SQLAlchemyStore("postgresql+psycopg_async://host/db"),
        r"'postgresql[+]psycopg_async' has an asynchronous driver.* such as postgresql\+psycopg://",
    ),
    "async engine": (
        lambda: SQLAlchemyStore(create_async_engine("postgresql+psycopg_async://host/db")),  # type: ignore[arg-type]
        "Of an AsyncEngine give the URL",
    ),
    "memory": (lambda: SQLAlchemyStore("sqlite+pysqlite://"), "would survive nothing"),
    "shared memory": (
        lambda: SQLAlchemyStore("sqlite+pysqlite:///file:x?mode=memory&uri=true"),
        "would survive nothing",
    ),
    "table": (
        lambda: SQLAlchemyStore("sqlite+pysqlite:///x.db", table="a-b"),
        r"SQLAlchemyStore\(table=...\) accepts a name of at most 48 letters",
    ),
    "lease": (
        lambda: SQLAlchemyStore("sqlite+pysqlite:///x.db?lease=soon"),
        r"SQLAlchemyStore\(lease=...\) accepts seconds from 0.3 to 86400, not 'soon'",
    ),
    "no lease": (
        lambda: SQLAlchemyStore("sqlite+pysqlite:///x.db", lease=True),
        "accepts seconds from 0.3 to 86400, not True",
    ),
}


@pytest.mark.parametrize("what", MADE)
def test_what_it_cannot_work_with_is_refused_when_it_is_made(what: str) -> None:
    make, why = MADE[what]
    with pytest.raises(SettingsError, match=why):
        make()


def test_a_version_of_the_database_that_is_too_old() -> None:
    from bgadapters.stores.sqlalchemy.engines import check_version

    class Old:
        class dialect:
            name = "mysql"
            is_mariadb = True
            server_version_info = (10, 5, 9)

    with pytest.raises(SettingsError, match=r"needs mariadb 10.6 or newer, .*this is 10.5.9"):
        check_version(Old)  # type: ignore[arg-type]
