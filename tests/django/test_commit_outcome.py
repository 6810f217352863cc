"""What has come of a transaction is known when the database has answered, and not before."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import pytest
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)

import bgadapters
from bgadapters.django import BackgroundTasks
from tests.core.ways import reached
from tests.django import databases
from tests.django.databases import needs_postgres
from tests.django.serving import Log
from tests.our_log import OurLog

ROLLED_BACK = "1 background task(s) discarded, their transaction was rolled back: see"
LOST = (
    "1 background task(s) discarded, their connection was lost before it had told of a commit: see"
)
KEY = os.getpid()  # of an advisory lock: other processes test in the same database
REFUSED = 2  # a number that the trigger refuses at the commit


class Oops(Exception):
    """What a function for ``on_commit`` raises."""


def fail() -> None:
    raise Oops


def execute(sql: str, *args: Any) -> Any:
    with connections["postgres"].cursor() as cursor:
        cursor.execute(sql, args)
        return cursor.fetchone()[0] if cursor.description else None


@pytest.fixture
def slow() -> Iterator[str]:
    """A table of which a COMMIT waits for an advisory lock, and may be refused then."""
    with databases.table("postgres") as name:
        execute(
            f"CREATE FUNCTION {name}_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"PERFORM pg_advisory_xact_lock({KEY}); "
            f"IF NEW.number = {REFUSED} THEN RAISE 'refused'; END IF; RETURN NULL; END $$"
        )
        execute(
            f"CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON {name} DEFERRABLE "
            f"INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {name}_at_commit()"
        )
        yield name
    execute(f"DROP FUNCTION {name}_at_commit")


class Writer:
    """A thread that has added a task in a transaction, and then goes on to commit it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.thread = threading.Thread(target=self._run)
        self.raised: BaseException | None = None

    def _run(self) -> None:
        try:
            self._work()
        except DatabaseError as exc:
            self.raised = exc
        finally:
            connections.close_all()

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()


@contextmanager
def commit_under_way() -> Iterator[None]:
    """Hold the lock that a COMMIT waits for, during a block that waits for that itself."""
    execute("SELECT pg_advisory_lock(%s)", KEY)
    try:
        yield
    finally:
        execute("SELECT pg_advisory_unlock(%s)", KEY)


def wait_for_commit() -> int:
    """Wait until a COMMIT waits for the lock; return the process of the database that does."""
    while True:
        found = execute(
            "SELECT min(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s "
            "AND NOT granted",
            KEY,
        )
        if found is not None:
            return int(found)


@needs_postgres
@pytest.mark.parametrize("end", ["committed", "refused", "killed"])
def test_a_queue_that_is_released_while_its_commit_is_under_way(
    slow: str, log: Log, our_log: OurLog, end: str
) -> None:
    """By another thread, as when an async view has given up waiting for the one that commits."""
    tasks = BackgroundTasks()
    number = REFUSED if end == "refused" else 1
    may_commit = threading.Event()

    def work() -> None:
        with transaction.atomic(using="postgres"):
            databases.insert("postgres", slow, number)
            see = tasks.options(name="see")
            see.add_task(lambda: log.append(databases.numbers("postgres", slow)))
            reached(may_commit)

    with Writer(work) as writer:
        with commit_under_way():
            may_commit.set()
            pid = wait_for_commit()
            tasks.release()
            assert "waiting for a commit" in repr(tasks)
            if end == "killed":
                execute("SELECT pg_terminate_backend(%s)", pid)
        writer.thread.join()
        assert bgadapters.drain() == []
    expected = {"committed": type(None), "refused": DatabaseError, "killed": OperationalError}
    assert isinstance(writer.raised, expected[end])
    assert log == ([[1]] if end == "committed" else [])
    assert our_log.messages == {"committed": [], "refused": [ROLLED_BACK], "killed": [LOST]}[end]


@needs_postgres
def test_a_conflict_that_the_commit_tells_of(log: Log, our_log: OurLog) -> None:
    serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    has_written, may_commit = threading.Event(), threading.Event()
    tasks = BackgroundTasks()

    def write(name: str, number: int) -> None:
        execute(serializable)
        assert databases.numbers("postgres", name) == []
        databases.insert("postgres", name, number)

    def work() -> None:
        with transaction.atomic(using="postgres"):
            write(name, 1)
            tasks.options(name="see").add_task(log.append, "never")
            has_written.set()
            may_commit.wait()

    with databases.table("postgres") as name:
        with Writer(work) as writer:
            has_written.wait()
            tasks.release()
            with transaction.atomic(using="postgres"):
                write(name, 2)
            may_commit.set()
        assert bgadapters.drain() == []
        assert databases.numbers("postgres", name) == [2]
    assert isinstance(writer.raised, OperationalError)
    assert log == []
    assert our_log.messages == [ROLLED_BACK]


@needs_postgres
@pytest.mark.parametrize("outer", ["default", "postgres"])
def test_of_two_databases_one_commits(slow: str, log: Log, our_log: OurLog, outer: str) -> None:
    """A task of both needs both, in whichever order they end."""
    inner = "default" if outer == "postgres" else "postgres"

    def work(number: int) -> None:
        with (
            BackgroundTasks() as tasks,
            transaction.atomic(using=outer),
            transaction.atomic(using=inner),
        ):
            databases.select_one("default")
            databases.insert("postgres", slow, number)
            tasks.options(name="see").add_task(log.append, number)

    work(1)
    with pytest.raises(DatabaseError):
        work(REFUSED)
    bgadapters.drain()
    assert log == [1]
    assert len(our_log.messages) == 1


def test_sqlite_refuses_at_the_commit(log: Log, our_log: OurLog) -> None:
    with databases.table("default") as name, connections["default"].cursor() as cursor:
        cursor.execute(f"CREATE UNIQUE INDEX {name}_one ON {name} (number)")
        cursor.execute(
            f"CREATE TABLE {name}_child (number integer REFERENCES {name} (number) "
            "DEFERRABLE INITIALLY DEFERRED)"
        )
        try:
            tasks = BackgroundTasks()
            with pytest.raises(IntegrityError), transaction.atomic():
                tasks.options(name="see").add_task(log.append, "never")
                databases.insert("default", f"{name}_child", 1)
            tasks.release()
            bgadapters.drain()
        finally:
            cursor.execute(f"DROP TABLE {name}_child")
    assert log == []
    assert our_log.messages == [ROLLED_BACK]


@contextmanager
def manual(alias: str) -> Iterator[None]:
    """Autocommit is off, by hand."""
    transaction.set_autocommit(False, using=alias)
    try:
        yield
    finally:
        transaction.set_autocommit(True, using=alias)


@pytest.mark.parametrize("alias", databases.ALIASES)
def test_a_block_where_autocommit_is_off(log: Log, our_log: OurLog, alias: str) -> None:
    """The end of the block ends no transaction there."""
    with databases.table(alias) as name:
        with manual(alias):
            with BackgroundTasks() as tasks, transaction.atomic(using=alias):
                databases.insert(alias, name, 1)
                tasks.add_task(lambda: log.append(databases.numbers(alias, name)))
            assert "waiting for a commit" in repr(tasks)
            transaction.commit(using=alias)
        bgadapters.drain()
        with manual(alias):
            with BackgroundTasks() as tasks, transaction.atomic(using=alias):
                databases.insert(alias, name, 2)
                tasks.options(name="see").add_task(log.append, "never")
            transaction.rollback(using=alias)
        bgadapters.drain()
    assert log == [[1]]
    assert our_log.messages == [ROLLED_BACK]


def test_autocommit_is_off_and_what_follows_the_commit_is_rolled_back(
    log: Log, our_log: OurLog
) -> None:
    """Django drops the functions of both, and has called none."""
    with manual("default"):
        with BackgroundTasks() as tasks, transaction.atomic():
            tasks.add_task(log.append, "committed")
        transaction.commit()
        with BackgroundTasks() as tasks, transaction.atomic():
            tasks.options(name="see").add_task(log.append, "never")
        transaction.rollback()
    bgadapters.drain()
    assert log == ["committed"]
    assert our_log.messages == [ROLLED_BACK]


def test_an_exception_that_outlives_its_transaction(log: Log) -> None:
    """It keeps what Django has not called after the commit; another transaction is open then."""
    tasks = BackgroundTasks()
    kept: list[BaseException] = []

    def work() -> None:
        try:
            with transaction.atomic():
                transaction.on_commit(fail)
                tasks.add_task(log.append, "committed")
                tasks.release()
        except Oops as exc:
            kept.append(exc)

    work()
    assert "waiting for a commit" in repr(tasks)
    with transaction.atomic():
        kept.clear()
    bgadapters.drain()
    assert log == ["committed"]


def test_a_commit_of_which_django_has_called_no_function_is_known(log: Log) -> None:
    """An exception keeps them."""
    tasks = BackgroundTasks()
    with pytest.raises(Oops), transaction.atomic():
        transaction.on_commit(fail)
        tasks.add_task(log.append, "committed")
    tasks.release()
    bgadapters.drain()
    assert log == ["committed"]


def test_a_block_that_is_entered_again_is_another_transaction(log: Log, our_log: OurLog) -> None:
    """As that of a decorated function is."""
    tasks = BackgroundTasks()

    @transaction.atomic
    def work(name: str, end: Callable[[], None] = fail) -> None:
        transaction.on_commit(fail)
        tasks.options(name=name).add_task(log.append, name)
        if name == "see":
            end()

    with pytest.raises(Oops) as kept:
        work("committed")
    with suppress(Oops):
        work("see")
    tasks.release()
    bgadapters.drain()
    assert kept.type is Oops
    assert log == ["committed"]
    assert our_log.messages == [ROLLED_BACK]


@pytest.mark.parametrize("is_last", [True, False])
def test_a_task_that_is_released_in_the_middle_of_a_rollback(log: Log, *, is_last: bool) -> None:
    """By what Django drops just then: nothing is known yet."""
    tasks = BackgroundTasks()
    released: list[bool] = []

    class Hook:
        def __call__(self) -> None:
            raise AssertionError("it is rolled back")

        def __del__(self) -> None:
            tasks.release()
            released.append(True)

    with suppress(Oops), transaction.atomic():
        if is_last:
            tasks.add_task(log.append, "never")
        transaction.on_commit(Hook())
        if not is_last:
            tasks.add_task(log.append, "never")
        fail()
    assert released == [True]
    bgadapters.drain()
    assert log == []
