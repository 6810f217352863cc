"""``options(durable=True, session=...)``: kept in the session's transaction, run if it commits."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, insert, make_url, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from bgadapters import BackgroundTasks, task_options
from bgadapters.adapters import Runtime, Settings, TaskEvent
from bgadapters.core.outbox.outbox import Outbox, outbox_of
from bgadapters.stores.sqlalchemy import SQLAlchemyStore
from tests.our_log import OurLog
from tests.stores.processes import until
from tests.stores.sql_databases import DATABASES, engine, needs_postgresql, url_of

ran: list[str] = []


@task_options()
def note(what: str) -> None:
    ran.append(what)


class App:
    """An application with a store, and what becomes of its tasks."""

    def __init__(self, url: str) -> None:
        ran.clear()
        self.url = url
        self.events: list[TaskEvent] = []
        self.runtime = Runtime(Settings(store=url, on_event=self.events.append))
        self.tasks = BackgroundTasks(runtime=self.runtime)

    def add(self, what: str, session: Any, **options: Any) -> None:
        self.tasks.options(session=session, durable=True, **options).add_task(note, what)

    def release(self) -> None:
        self.tasks.release()

    def ends(self) -> dict[str, str]:
        """How each task has ended."""
        self.runtime.drain(10)
        return {
            each.task.args[0]: each.kind
            for each in self.events
            if each.kind not in ("added", "started")
        }

    @property
    def outbox(self) -> Outbox:
        return outbox_of(self.runtime)

    def kept(self) -> list[str]:
        """The tasks that are in the store, once it is up to date."""
        self.outbox.settle(10)
        return sorted(each.payload.split('"a":["')[1].split('"')[0] for each in self.rows())

    def rows(self) -> list[Any]:
        return self.outbox.store.find()


@pytest.fixture(params=DATABASES)
def url(request: Any, tmp_path: Path) -> Iterator[str]:
    with url_of(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def app(url: str) -> Iterator[App]:
    app = App(url)
    yield app
    app.release()
    app.runtime.drain(10)
    app.outbox.close(10)


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with engine(url) as found, Session(found) as session:
        yield session


def test_a_commit_keeps_a_task_and_lets_it_run(app: App, session: Session) -> None:
    app.add("mail", session)
    assert app.kept() == []
    app.release()
    assert app.tasks.batch.is_held
    session.commit()
    assert app.ends() == {"mail": "succeeded"}
    assert ran == ["mail"]
    assert app.kept() == []


def test_a_commit_before_the_release(app: App, session: Session) -> None:
    app.add("mail", session)
    app.add("bill", session)
    session.commit()
    assert app.kept() == ["bill", "mail"]
    assert len({each.queue_id for each in app.rows()}) == 1
    assert app.outbox.take_over(10) == []  # they are this process' own at once
    app.release()
    assert app.ends() == {"mail": "succeeded", "bill": "succeeded"}
    assert ran == ["mail", "bill"]
    assert app.kept() == []


def test_a_rollback_takes_task_and_row(app: App, session: Session, our_log: OurLog) -> None:
    app.add("mail", session)
    session.flush()
    session.rollback()
    app.release()
    assert app.ends() == {"mail": "discarded"}
    assert (ran, app.kept()) == ([], [])
    assert not [each for each in our_log.messages if "taken over" in each]  # it is no loss


def test_each_transaction_of_a_session_counts_for_itself(app: App, session: Session) -> None:
    app.add("first", session)
    session.commit()
    app.add("second", session)
    session.rollback()
    app.add("third", session)
    session.commit()
    app.release()
    assert app.ends() == {"first": "succeeded", "second": "discarded", "third": "succeeded"}
    assert (ran, app.kept()) == (["first", "third"], [])


def test_savepoints(app: App, session: Session) -> None:
    app.add("around", session)
    with session.begin_nested():
        app.add("released", session)
    savepoint = session.begin_nested()
    app.add("undone", session)
    session.flush()
    savepoint.rollback()
    with session.begin_nested(), session.begin_nested():
        app.add("deep", session)
    session.commit()
    assert app.kept() == ["around", "deep", "released"]
    app.release()
    assert {name for name, end in app.ends().items() if end != "succeeded"} == {"undone"}
    assert ran == ["around", "released", "deep"]
    assert app.kept() == []


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_a_savepoint_that_was_released_is_undone_with_what_is_around_it(
    app: App, session: Session, end: str
) -> None:
    with session.begin_nested():
        app.add("mail", session)
    app.release()
    getattr(session, end)()
    assert app.ends() == {"mail": "discarded"}
    assert (ran, app.kept()) == ([], [])


def test_a_session_that_is_forgotten_has_committed_nothing(app: App, url: str) -> None:
    with engine(url) as found:
        session = Session(found)
        app.add("mail", session)
        app.release()
        assert app.tasks.batch.is_held
        del session
        gc.collect()
        assert app.ends() == {"mail": "discarded"}
        assert (ran, app.kept()) == ([], [])


def test_a_commit_that_fails(app: App, url: str, session: Session) -> None:
    table = Table(
        f"{make_url(url).query['table']}_x", MetaData(), Column("n", Integer, primary_key=True)
    )
    table.create(session.connection())
    session.commit()
    try:
        app.add("mail", session)
        with pytest.raises(IntegrityError):
            session.execute(insert(table), [{"n": 1}, {"n": 1}])
        session.rollback()
        app.release()
        assert app.ends() == {"mail": "discarded"}
        assert (ran, app.kept()) == ([], [])
    finally:
        session.rollback()
        table.drop(session.connection())
        session.commit()


def test_a_response_that_fails_before_the_commit_leaves_no_row(app: App, session: Session) -> None:
    app.add("mail", session)
    session.flush()
    app.tasks.close(ValueError("the view has failed"))
    app.outbox.settle(10)  # nothing is there yet to be deleted
    session.commit()
    assert app.kept() == ["mail"]
    assert app.outbox.take_over(10) == []  # as a process that serves asks from time to time
    assert (ran, app.kept()) == ([], [])


@pytest.mark.parametrize("options", [{"on_commit": False}, {"always": True}, {"run_on": "error"}])
def test_what_runs_whatever_comes_of_it_is_in_no_transaction(
    app: App, session: Session, options: dict[str, Any]
) -> None:
    with pytest.raises(
        TypeError, match=r"options\(session=.* contradicts itself: .*Leave session="
    ):
        app.add("mail", session, **options)
    assert len(app.tasks.batch) == 0


def test_a_row_that_is_committed_when_its_process_has_closed_is_for_others(
    app: App, session: Session, url: str
) -> None:
    app.add("mail", session)
    session.flush()
    if session.get_bind().dialect.name == "sqlite":
        app.outbox.close(0.2)  # the file is the session's until that commits
    else:
        app.outbox.close(10)  # which waits for nobody's transaction
        assert leases(app, url) == [0.0]
    session.commit()
    other = SQLAlchemyStore(url)
    other.open("other")
    until(lambda: other.take_over(10))
    other.close()


def leases(app: App, url: str) -> list[float]:
    store = app.outbox.store
    assert isinstance(store, SQLAlchemyStore)
    (owners,) = (each for name, each in store.metadata.tables.items() if name.endswith("_owners"))
    with engine(url) as found, found.connect() as connection:
        return list(connection.scalars(select(owners.c.expires)))


def test_a_drain_in_the_thread_of_the_transaction_does_not_wait_for_it(
    app: App, session: Session
) -> None:
    app.add("mail", session)
    app.release()
    assert app.tasks.batch.waits_for_this_thread()
    session.rollback()


def test_a_scoped_session_is_the_session_of_here(app: App, url: str) -> None:
    with engine(url) as found:
        scoped = scoped_session(sessionmaker(found))
        app.add("mail", scoped)
        scoped.commit()
        scoped.remove()
        app.release()
        assert app.ends() == {"mail": "succeeded"}


def is_missing(module: str) -> bool:
    return importlib.util.find_spec(module) is None


@pytest.mark.parametrize(
    ("name", "driver"),
    [
        pytest.param("postgresql", "postgresql+psycopg", marks=needs_postgresql),
        pytest.param(
            "postgresql",
            "postgresql+asyncpg",
            marks=[
                needs_postgresql,
                pytest.mark.skipif(is_missing("asyncpg"), reason="asyncpg is not installed"),
            ],
        ),
        pytest.param(
            "sqlite",
            "sqlite+aiosqlite",
            marks=pytest.mark.skipif(is_missing("aiosqlite"), reason="aiosqlite is not installed"),
        ),
    ],
)
@pytest.mark.parametrize("is_scoped", [False, True])
def test_an_async_session(name: str, driver: str, is_scoped: bool, tmp_path: Path) -> None:
    async def serve() -> None:
        bare = make_url(url).difference_update_query(["lease", "table"])
        asynchronous = create_async_engine(bare.set(drivername=driver))
        make = async_sessionmaker(asynchronous)
        scoped = async_scoped_session(make, scopefunc=asyncio.current_task)
        session: Any = scoped if is_scoped else make()
        here.add("mail", session)
        async with session.begin_nested():
            here.add("nested", session)
        here.release()
        assert here.tasks.batch.is_held
        assert not here.tasks.batch.waits_for_this_thread()
        await session.commit()
        await here.runtime.adrain(10)
        undone = BackgroundTasks(runtime=here.runtime)
        undone.options(session=session, durable=True).add_task(note, "undone")
        await session.rollback()
        undone.release()
        await here.runtime.adrain(10)
        await (scoped.remove() if is_scoped else session.close())
        await asynchronous.dispose()

    with url_of(name, tmp_path) as url:
        here = App(url)
        asyncio.run(serve())
        assert here.ends() == {"mail": "succeeded", "nested": "succeeded", "undone": "discarded"}
        assert (ran, here.kept()) == (["mail", "nested"], [])
        here.outbox.close(10)


def test_what_is_no_session_of_the_database_is_refused(app: App, url: str, tmp_path: Path) -> None:
    elsewhere = create_engine(f"sqlite:///{tmp_path}/elsewhere.db")
    wrong: list[tuple[Any, str]] = [
        (
            object(),
            "accepts a session that the setting 'store' or the engine knows, or None, not <object",
        ),
        (sessionmaker(elsewhere), "accepts a session that the setting"),
        (Session(), "the session does not know in which database to write tasks"),
        (Session(elsewhere), "the session is of sqlite:///.*elsewhere.db, the store of .*: what"),
    ]
    for session, why in wrong:
        with pytest.raises(TypeError, match=why):
            app.add("mail", session)
    assert len(app.tasks.batch) == 0
    with engine(url) as found, found.connect() as connection, Session(connection) as session:
        app.add("mail", session)
        session.rollback()


def test_a_session_that_begins_nothing_by_itself_is_told_to(app: App, url: str) -> None:
    with engine(url) as found, Session(found, autobegin=False) as session:
        with pytest.raises(TypeError, match=r"begins none by itself .*: session.begin\(\)"):
            app.add("mail", session)
        assert len(app.tasks.batch) == 0
        with session.begin():
            app.add("mail", session)
        app.release()
        assert app.ends() == {"mail": "succeeded"}
