"""The engine of Procrastinate: without a server, and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import procrastinate
import psycopg
import pytest
import sqlalchemy
import sqlalchemy.exc
import sqlalchemy.ext.asyncio
import sqlalchemy.orm
from fastapi.testclient import TestClient
from procrastinate.testing import InMemoryConnector

from bgadapters import BackgroundTasks, Retry, current_task, task_options
from bgadapters.adapters import Call, Runtime, Settings
from bgadapters.core.sending import health
from bgadapters.engines import EngineUnavailableError, Message
from bgadapters.engines.procrastinate import ProcrastinateEngine
from tests.core.ways import PATIENCE
from tests.engines.procrastinate_database import (
    Database,
    database,
    needs_postgresql,
    proxied,
    work_off,
)
from tests.our_log import OurLog
from tests.running import ROOT

ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@task_options()
def note(*what: Any) -> None:
    ran.append(what)


@task_options()
async def anote(what: str) -> None:
    await asyncio.sleep(0)
    ran.append(what)


@task_options()
def fail(what: str) -> None:
    attempt = current_task().attempt  # type: ignore[union-attr]
    ran.append((what, attempt))
    if attempt < 3:
        raise Retry("again", delay=0)


@task_options()
def break_down() -> None:
    raise LookupError("for good")


class Served:
    """An application with an engine, and what it is told."""

    def __init__(self, app: procrastinate.App, **given: Any) -> None:
        self.app = app
        self.engine = ProcrastinateEngine(app, **given)
        self.ends: list[tuple[str, str | None]] = []
        self.runtime = Runtime(Settings(engines={"jobs": self.engine}, on_event=self._note))
        self.engine.bind(self.runtime)

    def _note(self, event: Any) -> None:
        if event.kind not in {"added", "started"}:
            self.ends.append((event.kind, event.reason))

    def add(self, func: Any, *args: Any, _options: dict[str, Any] | None = None, **kw: Any) -> None:
        """Add a task, as a view does whose response is complete then."""
        options: dict[str, Any] = {"engine": "jobs", **(_options or {})}
        with BackgroundTasks(runtime=self.runtime) as tasks:
            tasks.options(**options).add_task(func, *args, **kw)
            if tasks.batch.unconfirmed is not None:
                tasks.confirm()
        assert self.runtime.drain(PATIENCE) == []

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.ends]


@pytest.fixture
def memory() -> InMemoryConnector:
    return InMemoryConnector()


@pytest.fixture
def served(memory: InMemoryConnector) -> Iterator[Served]:
    served = Served(procrastinate.App(connector=memory))
    yield served
    assert served.runtime.drain(PATIENCE) == []


# Without a server.


def test_a_task_is_a_job_with_the_payload(served: Served, memory: InMemoryConnector) -> None:
    served.add(note, 1)
    (job,) = memory.jobs.values()
    assert (job["task_name"], job["queue_name"], job["priority"]) == (
        "bgadapters.run",
        "default",
        0,
    )
    assert served.kinds() == ["sent"]
    assert ran == []


def test_it_runs_where_it_arrives(served: Served) -> None:
    served.add(note, 1, "two")
    served.add(anote, "three")
    work_off(served.app)
    assert ran == [(1, "two"), "three"]
    assert served.kinds() == ["sent", "sent", "succeeded", "succeeded"]


def test_options_are_those_of_procrastinate(memory: InMemoryConnector) -> None:
    served = Served(procrastinate.App(connector=memory), queue="mail")
    due = datetime(2100, 1, 1, tzinfo=UTC)
    served.add(note, _options={"run_after": due, "priority": 7})
    served.add(note, _options={"key": "a", "on_duplicate": "keep"})
    before = datetime.now(UTC)
    served.add(note, _options={"delay": 100})
    first, second, third = memory.jobs.values()
    assert (first["scheduled_at"], first["priority"], first["queue_name"]) == (due, 7, "mail")
    assert (second["scheduled_at"], second["queueing_lock"]) == (None, "a")
    assert timedelta(seconds=99) < third["scheduled_at"] - before < timedelta(seconds=110)


def test_of_two_with_a_key_that_which_waits_is_kept(
    served: Served, memory: InMemoryConnector
) -> None:
    for _ in range(2):
        served.add(note, _options={"key": "a", "on_duplicate": "keep"})
    assert len(memory.jobs) == 1
    waits = "a job with the queueing lock 'a' waits in Procrastinate"
    assert served.ends == [("sent", "it was sent to 'jobs'"), ("replaced", waits)]


def test_an_attempt_that_fails_is_made_again_by_procrastinate(
    served: Served, memory: InMemoryConnector
) -> None:
    served.add(fail, "x", _options={"retries": 5})
    for _ in range(3):
        work_off(served.app)
    assert ran == [("x", 1), ("x", 2), ("x", 3)]
    assert [job["status"] for job in memory.jobs.values()] == ["succeeded"]
    assert served.kinds() == ["sent", "retrying", "retrying", "succeeded"]


def test_what_fails_is_a_failed_job(
    served: Served, memory: InMemoryConnector, our_log: OurLog
) -> None:
    served.add(break_down)
    work_off(served.app)
    assert [job["status"] for job in memory.jobs.values()] == ["failed"]
    assert served.kinds() == ["sent", "failed"]


def test_what_may_not_be_called_is_a_failed_job(
    served: Served, memory: InMemoryConnector, our_log: OurLog
) -> None:
    served.app.configure_task("bgadapters.run").defer(payload='{"f":"os:abort"}')
    work_off(served.app)
    assert [job["status"] for job in memory.jobs.values()] == ["failed"]
    assert served.kinds() == ["failed"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key": "a"}, "on_duplicate='keep'"),
        ({"key": "a", "on_duplicate": "keep", "retries": 1}, "Leave one of them away"),
        ({"key": "a\0", "on_duplicate": "keep"}, "PostgreSQL has no such text"),
        ({"key": "\ud800", "on_duplicate": "keep"}, "PostgreSQL has no such text"),
        ({"concurrency": "slow"}, "concurrency"),
        ({"send": "in_transaction"}, r"options\(session=\.\.\.\)"),
    ],
)
def test_what_it_cannot_do_is_refused_at_add_task(
    served: Served, options: dict[str, Any], says: str
) -> None:
    tasks = BackgroundTasks(runtime=served.runtime)
    with tasks, pytest.raises((TypeError, ValueError), match=says):
        tasks.options(engine="jobs", **options).add_task(note)


def test_a_task_of_procrastinate_is_sent_as_itself(
    served: Served, memory: InMemoryConnector
) -> None:
    @served.app.task(name="own", queue="theirs", lock="their-lock")
    def own(a: int) -> None:
        ran.append(a)

    served.add(own, a=1, _options={"priority": 3})
    (job,) = memory.jobs.values()
    assert (job["task_name"], job["queue_name"], job["lock"]) == ("own", "theirs", "their-lock")
    assert (job["priority"], job["args"]) == (3, {"a": 1})
    work_off(served.app)
    assert ran == [1]


def test_a_task_of_procrastinate_is_checked_where_it_is_added(served: Served) -> None:
    @served.app.task(name="own")
    def own(a: object) -> None: ...

    blueprint = procrastinate.Blueprint()

    @blueprint.task(name="theirs")
    def theirs() -> None: ...

    with BackgroundTasks(runtime=served.runtime) as tasks:
        there = tasks.options(engine="jobs")
        with pytest.raises(TypeError, match="add_task\\(task, name=value\\)"):
            there.add_task(own, 1)
        with pytest.raises(TypeError, match="no JSON"):
            there.add_task(own, a=object())
        for text in ("\0", "\ud800"):
            with pytest.raises(TypeError, match="PostgreSQL has no such text"):
                there.add_task(own, a=[{"b": text}])
            with pytest.raises(TypeError, match="PostgreSQL has no such text"):
                there.add_task(own, a={text: 1})
        with pytest.raises(TypeError, match="no task of the app of this engine"):
            there.add_task(theirs)
        with pytest.raises(TypeError, match="retry="):
            tasks.options(engine="jobs", retries=1).add_task(own, a=1)


def test_the_app_may_be_named() -> None:
    engine = ProcrastinateEngine(f"{__name__}.named")
    assert "bgadapters.run" in named.tasks
    again = ProcrastinateEngine(f"{__name__}:named")
    assert engine.arrivals is again.arrivals


named = procrastinate.App(connector=InMemoryConnector())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "not 3"),
        ("nowhere.to.be.found", "No module"),
        (procrastinate.Blueprint(), "not the blueprint"),
    ],
)
def test_what_is_no_app_is_refused(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        ProcrastinateEngine(given)


def test_a_queue_has_a_name(memory: InMemoryConnector) -> None:
    with pytest.raises(TypeError, match="queue="):
        ProcrastinateEngine(procrastinate.App(connector=memory), queue="")


# On PostgreSQL.


@pytest.fixture(scope="module")
def made() -> Iterator[Database]:
    with database() as made:
        yield made


@pytest.fixture
def jobs(made: Database) -> Database:
    made.clear()
    return made


@pytest.fixture
def there(jobs: Database) -> Iterator[Served]:
    served = Served(jobs.app())
    yield served
    assert served.runtime.drain(PATIENCE) == []
    served.engine.close()


@needs_postgresql
def test_a_job_is_in_the_database_and_runs(there: Served, jobs: Database) -> None:
    there.add(note, "ü\0")
    assert jobs.statuses() == ["todo"]
    work_off(there.app)
    assert ran == [("ü\0",)]
    assert jobs.statuses() == ["succeeded"]


@needs_postgresql
def test_it_is_sent_on_an_event_loop_before_the_response(there: Served, jobs: Database) -> None:
    async def main() -> None:
        async with BackgroundTasks(runtime=there.runtime) as tasks:
            tasks.options(engine="jobs", send="before_response").add_task(note)
            await tasks.aconfirm()
            assert jobs.statuses() == ["todo"]

    asyncio.run(main())
    assert there.kinds() == ["sent"]


@needs_postgresql
def test_its_connections_are_its_own(there: Served, jobs: Database) -> None:
    """The app may be opened on an event loop meanwhile, and closed."""

    async def main() -> None:
        async with there.app.open_async():
            await asyncio.to_thread(there.add, note)

    asyncio.run(main())
    there.add(note)
    assert jobs.statuses() == ["todo", "todo"]


@needs_postgresql
def test_an_app_that_is_open_is_refused(jobs: Database) -> None:
    app = jobs.app()
    with app.open(), pytest.raises(TypeError, match="make it before the app is opened"):
        ProcrastinateEngine(app)


@needs_postgresql
def test_keys_and_retries_there(there: Served, jobs: Database) -> None:
    for _ in range(2):
        there.add(note, 1, _options={"key": "a", "on_duplicate": "keep"})
    there.add(fail, "x", _options={"retries": 2})
    for _ in range(3):
        work_off(there.app)
    assert jobs.statuses() == ["succeeded", "succeeded"]
    assert ran == [(1,), ("x", 1), ("x", 2), ("x", 3)]


@needs_postgresql
def test_a_timeout_is_kept_where_it_runs(there: Served, jobs: Database, our_log: OurLog) -> None:
    there.add(asleep, _options={"timeout": 0.05})
    work_off(there.app)
    assert jobs.statuses() == ["failed"]


@task_options()
async def asleep() -> None:
    await asyncio.sleep(PATIENCE)


@needs_postgresql
def test_without_tables_the_task_fails_and_is_not_tried_again(
    jobs: Database, our_log: OurLog
) -> None:
    bare = Database(jobs.url.rpartition("/")[0] + "/postgres")
    served = Served(bare.app())
    served.add(note)
    assert served.kinds() == ["failed"]
    served.engine.close()


# Transactions.


@needs_postgresql
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_job_is_a_part_of_the_transaction_of_a_session(
    there: Served, jobs: Database, ends: str
) -> None:
    engine = sqlalchemy.create_engine(jobs.url.replace("postgresql", "postgresql+psycopg"))
    with sqlalchemy.orm.Session(engine) as session:
        there.add(note, _options={"send": "in_transaction", "session": session})
        assert jobs.statuses() == []
        getattr(session, ends)()
    engine.dispose()
    assert jobs.statuses() == (["todo"] if ends == "commit" else [])
    assert there.kinds() == ["sent"]


@needs_postgresql
def test_a_key_that_is_taken_does_not_end_the_transaction(there: Served, jobs: Database) -> None:
    how: dict[str, Any] = {"send": "in_transaction", "key": "a", "on_duplicate": "keep"}
    engine = sqlalchemy.create_engine(jobs.url.replace("postgresql", "postgresql+psycopg"))
    with sqlalchemy.orm.Session(engine) as session:
        for _ in range(2):
            there.add(note, _options={**how, "session": session})
        there.add(note, _options={"send": "in_transaction", "session": session})
        session.commit()
    engine.dispose()
    assert jobs.statuses() == ["todo", "todo"]
    assert there.kinds() == ["sent", "replaced", "sent"]


@needs_postgresql
def test_a_job_is_a_part_of_the_transaction_of_a_connection(there: Served, jobs: Database) -> None:
    with psycopg.connect(jobs.url) as connection:
        how: dict[str, Any] = {"send": "in_transaction", "session": connection}
        there.add(note, _options=how)
        connection.rollback()
        there.add(note, _options=how)
        assert jobs.statuses() == []
    assert jobs.statuses() == ["todo"]


DRIVERS = ["psycopg", "asyncpg"]


class Asynchronous:
    """Sessions of the database with the jobs, over a driver that is asynchronous."""

    def __init__(self, jobs: Database, driver: str) -> None:
        url = jobs.url.replace("postgresql", f"postgresql+{driver}")
        self.engine = sqlalchemy.ext.asyncio.create_async_engine(url)
        self.session = sqlalchemy.ext.asyncio.AsyncSession(self.engine)

    async def __aenter__(self) -> sqlalchemy.ext.asyncio.AsyncSession:
        return self.session

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        await self.engine.dispose()


def opened(served: Served, session: Any) -> tuple[BackgroundTasks, Any]:
    """The queue of a response, and what adds to that with a session."""
    tasks = BackgroundTasks(runtime=served.runtime)
    return tasks, tasks.options(engine="jobs", send="in_transaction", session=session)


@needs_postgresql
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("ends", ["commit", "rollback", "close"])
def test_a_job_is_a_part_of_the_transaction_of_an_async_session(
    there: Served, jobs: Database, driver: str, ends: str
) -> None:
    """It is put there by the commit, and only then counts as sent."""

    async def serve() -> None:
        async with Asynchronous(jobs, driver) as session:
            tasks, adder = opened(there, session)
            adder.add_task(note, "ü", {"a": [1, None]})
            adder.options(delay=3600, priority=7).add_task(note)
            await tasks.arelease()
            assert tasks.batch.is_held
            assert jobs.statuses() == []
            assert there.kinds() == []
            await getattr(session, ends)()
            await there.runtime.adrain(PATIENCE)

    asyncio.run(serve())
    is_sent = ends == "commit"
    assert there.kinds() == ["sent" if is_sent else "discarded"] * 2
    assert jobs.statuses() == (["todo"] * 2 if is_sent else [])
    if is_sent:
        query = "SELECT priority, scheduled_at > now() + '59 min' FROM procrastinate_jobs"
        assert jobs.all(query) == [(0, None), (7, True)]
        work_off(there.app)
        assert ran == [("ü", {"a": [1, None]})]


@needs_postgresql
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_key_that_is_taken_does_not_end_the_transaction_of_an_async_session(
    there: Served, jobs: Database, driver: str
) -> None:
    async def serve() -> None:
        async with Asynchronous(jobs, driver) as session:
            tasks, adder = opened(there, session)
            for _ in range(2):
                adder.options(key="a", on_duplicate="keep").add_task(note)
            adder.add_task(note)
            await session.commit()
            await tasks.arelease()
            await there.runtime.adrain(PATIENCE)

    asyncio.run(serve())
    assert jobs.statuses() == ["todo", "todo"]
    assert there.kinds() == ["sent", "replaced", "sent"]


@needs_postgresql
def test_savepoints_of_an_async_session(there: Served, jobs: Database) -> None:
    async def serve() -> None:
        async with Asynchronous(jobs, "asyncpg") as session:
            tasks, adder = opened(there, session)
            adder.add_task(note, "around")
            async with session.begin_nested():
                adder.add_task(note, "released")
            savepoint = await session.begin_nested()
            adder.add_task(note, "undone")
            await savepoint.rollback()
            adder.add_task(note, "after")
            await session.commit()
            async with session.begin():
                adder.add_task(note, "left open")
                await session.begin_nested()
                adder.add_task(note, "in one that is left open")
            adder.add_task(note, "around one that fails")
            with pytest.raises(LookupError):
                async with session.begin_nested():
                    async with session.begin_nested():
                        adder.add_task(note, "in one that fails")
                    raise LookupError
            await session.commit()
            await tasks.arelease()
            await there.runtime.adrain(PATIENCE)

    asyncio.run(serve())
    found = jobs.all("SELECT args->>'payload' FROM procrastinate_jobs ORDER BY id")
    named = [json.loads(payload)["a"][0] for (payload,) in found]
    assert sorted(named) == [
        "after",
        "around",
        "around one that fails",
        "in one that is left open",
        "left open",
        "released",
    ]
    assert sorted(there.kinds()) == ["discarded", "discarded", *["sent"] * 6]


@needs_postgresql
def test_the_transaction_decides_and_not_the_response(
    there: Served, jobs: Database, our_log: OurLog
) -> None:
    async def serve() -> None:
        async with Asynchronous(jobs, "asyncpg") as session:
            tasks, adder = opened(there, session)
            adder.add_task(note)
            tasks.add_task(note, "of the response")
            tasks.close(LookupError("the view has failed"))
            await session.commit()
            await there.runtime.adrain(PATIENCE)

    asyncio.run(serve())
    assert jobs.statuses() == ["todo"]
    assert there.kinds() == ["discarded", "sent"]


@needs_postgresql
def test_a_job_that_cannot_be_put_there_has_the_commit_fail(
    jobs: Database, our_log: OurLog
) -> None:
    bare = Database(jobs.url.rpartition("/")[0] + "/postgres")
    served = Served(bare.app())

    async def serve() -> None:
        async with Asynchronous(bare, "asyncpg") as session:
            tasks, adder = opened(served, session)
            adder.add_task(note)
            for _ in range(2):
                with pytest.raises(sqlalchemy.exc.DBAPIError, match="procrastinate_job_to_defer"):
                    await session.commit()
            await session.rollback()
            await tasks.arelease()
            await served.runtime.adrain(PATIENCE)

    asyncio.run(serve())
    assert served.kinds() == ["discarded"]
    served.engine.close()


def test_an_async_session_of_another_database_is_refused() -> None:
    """No server is asked for that."""
    served = Served(Database("postgresql://nobody@127.0.0.1:1/nowhere").app())
    session = sqlalchemy.ext.asyncio.AsyncSession()
    session.sync_session.bind = sqlalchemy.create_engine("sqlite://")
    tasks, adder = opened(served, session)
    with pytest.raises(TypeError, match="the jobs are in PostgreSQL, and this is sqlite"):
        adder.add_task(note)
    tasks.release()


@needs_postgresql
def test_sessions_that_cannot_be_used_are_refused(there: Served, jobs: Database) -> None:
    def refused(session: Any, says: str) -> None:
        with BackgroundTasks(runtime=there.runtime) as tasks:
            how = tasks.options(engine="jobs", send="in_transaction", session=session)
            with pytest.raises(TypeError, match=says):
                how.add_task(note)

    with psycopg.connect(jobs.url, autocommit=True) as connection:
        refused(connection, "no open transaction")
        refused(connection.cursor(), "not Cursor")
    url = jobs.url.replace("postgresql", "postgresql+psycopg")
    asynchronous = sqlalchemy.ext.asyncio.create_async_engine(url)
    refused(asynchronous.connect(), "would have to be awaited, not AsyncConnection")
    refused(sqlalchemy.ext.asyncio.AsyncSession(), "does not know in which database")
    idle = sqlalchemy.ext.asyncio.AsyncSession(asynchronous, autobegin=False)
    refused(idle, r"begins none by itself .*: session.begin\(\)")
    with sqlalchemy.orm.Session(sqlalchemy.create_engine("sqlite://")) as session:
        refused(session, "whose driver's connection is sqlite3")
    assert jobs.statuses() == []


# A database that is away.


@needs_postgresql
def test_a_database_that_goes_away_and_comes_back(
    jobs: Database, our_log: OurLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.0)  # in which an engine that has failed is let alone
    with proxied(jobs) as proxy:
        served = Served(jobs.app(proxy.url), timeout=2.0, patience=0.0)
        served.add(note, 1)
        proxy.go_away()
        served.add(note, 2)
        proxy.come_back()
        served.add(note, 3)
        assert served.kinds() == ["sent", "engine_down", "failed", "engine_back", "sent"]
        served.engine.close()
    assert jobs.statuses() == ["todo", "todo"]


@pytest.mark.parametrize("way", ["in a thread", "on a loop"])
def test_a_port_that_never_answers_counts_as_down(way: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as hole:
        url = f"postgresql://postgres@127.0.0.1:{hole.getsockname()[1]}/postgres?connect_timeout=2"
        served = Served(Database(url).app(), timeout=0.3)
        began = time.monotonic()
        with BackgroundTasks(runtime=served.runtime) as tasks:
            tasks.options(engine="jobs", send="before_response").add_task(note)
            with pytest.raises(EngineUnavailableError, match=r"has not answered in 0\.3 s"):
                tasks.confirm() if way == "in a thread" else asyncio.run(tasks.aconfirm())
            assert time.monotonic() - began < 2.0
            tasks.discard(RuntimeError("503"))
        served.engine.close()


@needs_postgresql
def test_a_job_that_came_too_late_is_not_there(
    jobs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is broken while the database works at it; the next one has another."""
    monkeypatch.setattr(health, "INTERVAL", 0.0)
    served = Served(jobs.app(), timeout=0.5)
    served.add(note)
    with psycopg.connect(jobs.url) as connection:
        connection.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        with BackgroundTasks(runtime=served.runtime) as tasks:
            tasks.options(engine="jobs", send="before_response").add_task(note)
            with pytest.raises(EngineUnavailableError, match=r"has not answered in 0\.5 s"):
                tasks.confirm()
            tasks.discard(RuntimeError("503"))
    served.add(note)
    assert jobs.statuses() == ["todo", "todo"]
    served.engine.close()


@needs_postgresql
def test_a_forked_child_has_connections_of_its_own(there: Served, jobs: Database) -> None:
    there.add(note)
    before = jobs.all(OTHERS)
    assert before
    child = os.fork()
    if not child:
        code = 1
        try:
            there.engine.reset_after_fork()
            send_by_itself(there)
            there.engine.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    there.add(note)
    assert jobs.statuses() == ["todo"] * 3
    assert jobs.all(OTHERS) == before, "the child has closed those of its parent"


OTHERS = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid != pg_backend_pid() ORDER BY pid"
)


def send_by_itself(served: Served) -> None:
    """Send without the application, whose threads are the parent's."""
    options = served.runtime.default_options
    payload = '{"f":"nobody:runs_it"}'
    served.engine.send(Message("1", "name", payload, options, None, Call(note, (), {}), {}))


# What the documentation shows.

SNIPPETS = ROOT / "docs/snippets"


@needs_postgresql
def test_the_examples(jobs: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(SNIPPETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", jobs.url)
    shown = importlib.import_module("engines_procrastinate_session")
    with psycopg.connect(jobs.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (email text)")
    with TestClient(shown.app) as client:
        for path in ("sign-up/a@example.com", "orders/b@example.com", "images/cat.png"):
            assert client.post(f"/{path}").status_code == 200
    shown.engine.dispose()
    assert jobs.all("SELECT email FROM orders") == [("b@example.com",)]
    tasks = jobs.all("SELECT task_name FROM procrastinate_jobs")
    names = ["bgadapters.run"] * 2 + ["engines_procrastinate_session.resize"]
    assert sorted(name for (name,) in tasks) == names
    work_off(shown.jobs)
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == [
        "notification for a@example.com: welcome",
        "notification for b@example.com: welcome",
    ]


def test_the_example_of_django(tmp_path: Path) -> None:
    """The task is there for a worker when Django is set up."""
    code = (
        "import django; from django.conf import settings;"
        "import engines_procrastinate_django as shown;"
        "given = {name: getattr(shown, name) for name in dir(shown) if name.isupper()};"
        "database = {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'nowhere'};"
        "settings.configure(**given, DATABASES={'default': database}, SECRET_KEY='x');"
        "django.setup();"
        "from procrastinate.contrib.django import app;"
        "assert 'bgadapters.run' in app.tasks"
    )
    path = os.pathsep.join([str(SNIPPETS), *(each for each in sys.path if each)])
    environ = {**os.environ, "PYTHONPATH": path}
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, check=True)
