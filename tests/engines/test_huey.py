"""Huey as an engine, with its own consumer."""

from __future__ import annotations

import datetime as dt
import gc
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bgadapters import SettingsError
from bgadapters.adapters import Call, Options, Runtime, parse_settings
from bgadapters.engines import Engine, EngineUnavailableError, Message
from tests.engines import work
from tests.engines.bench import PATIENCE, Away, Bench, until
from tests.engines.contract import EngineContract
from tests.engines.web import Web
from tests.our_log import OurLog

hueys = pytest.importorskip("huey")

from huey import signals  # noqa: E402
from huey.serializer import SignedSerializer  # noqa: E402

from bgadapters.engines.huey import HueyEngine  # noqa: E402
from tests.engines import huey_app  # noqa: E402

SIGNED = {"serializer": SignedSerializer(secret=huey_app.SECRET)}


def _needs(port: int, *modules: str) -> pytest.MarkDecorator:
    """Skip what needs a server of this machine, or a module, that is not there."""
    try:
        for each in modules:
            __import__(each)
        socket.create_connection(("127.0.0.1", port), 1).close()
    except (ImportError, OSError) as exc:
        return pytest.mark.skip(reason=f"port {port}: {exc}")
    return pytest.mark.skipif(False, reason="it is there")


needs_redis = _needs(6379, "redis")
needs_postgresql = _needs(5432, "psycopg")


class HueyBench(Bench):
    """A Huey, and its consumer.

    Attributes:
        kind: the class of the Huey.
        options: what it is given.
    """

    kind: ClassVar[str]

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.name = f"bench{uuid.uuid4().hex}"
        self.huey = self.made()
        self._engine = HueyEngine(self.huey)  # by which it knows the task of ours
        self.own = huey_app.own_of(self.huey)

    def options(self) -> dict[str, Any]:
        raise NotImplementedError

    def made(self, **more: Any) -> Any:
        return huey_app.made(self.kind, self.name, {**self.options(), **more})

    def engine(self, **given: Any) -> Engine:
        return HueyEngine(self.huey, **given)

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[Any]:
        environ = huey_app.environ(self.kind, self.name, self.options())
        consumer = ("-m", "huey.bin.huey_consumer", "tests.engines.huey_app.huey")
        with self.process(*consumer, "-w", "1", "-d", "0.02", *arguments, **environ) as process:
            until(lambda: "consumer started" in self.said(), self.said)
            yield process

    def waiting(self) -> int:
        return int(self.huey.pending_count()) + int(self.huey.scheduled_count())

    def forge(self, payload: str) -> str:
        task = self._engine.task_class((payload, 1))
        self.huey.enqueue(task)
        return str(task.id)

    def has_failed(self, id: str) -> bool:  # noqa: A002
        return bool(self.lines(id, "error"))

    def close(self) -> None:
        self.huey.flush()
        self.huey.storage.close()


class SqliteBench(HueyBench):
    kind = "SqliteHuey"
    ways: ClassVar[Sequence[str]] = ("locked",)

    def options(self) -> dict[str, Any]:
        return {"filename": str(self.directory / "huey.db")}

    @contextmanager
    def away(self, how: str, **given: Any) -> Iterator[Away]:
        connection = sqlite3.connect(
            self.options()["filename"], isolation_level=None, check_same_thread=False
        )
        connection.execute("begin exclusive")
        try:
            yield Away(self.engine(**given), lambda: connection.execute("rollback"))
        finally:
            connection.close()


class RedisBench(HueyBench):
    kind = "RedisHuey"

    @property
    def port(self) -> int:
        return 6379

    def options(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.port, "db": 15}

    def engine_at(self, port: int, **given: Any) -> Engine:
        return HueyEngine(self.made(port=port), **given)


class PriorityRedisBench(RedisBench):
    kind = "PriorityRedisHuey"


class PostgresBench(HueyBench):
    kind = "PostgresHuey"

    @property
    def port(self) -> int:
        return 5432

    def options(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "postgres",
            "dbname": "postgres",
            "table_prefix": self.name,
        }

    def engine_at(self, port: int, **given: Any) -> Engine:
        return HueyEngine(self.made(port=port, create_tables=False), **given)

    def close(self) -> None:
        super().close()
        tables = ("kv", "schedule", "task", "counter")
        self.huey.storage.sql(f"drop table if exists {', '.join(map(self._table, tables))}")
        self.huey.storage.close()

    def _table(self, name: str) -> str:
        return f"{self.options()['table_prefix']}_{name}"


class TestSqlite(EngineContract):
    bench_type = SqliteBench


@needs_redis
class TestRedis(EngineContract):
    bench_type = RedisBench


@needs_redis
class TestPriorityRedis(EngineContract):
    bench_type = PriorityRedisBench


@needs_postgresql
@pytest.mark.skipif(not hasattr(hueys, "PostgresHuey"), reason="it is of Huey 3")
class TestPostgres(EngineContract):
    bench_type = PostgresBench


# What is Huey's own.


@pytest.fixture
def web() -> Iterator[Callable[..., Web]]:
    made: list[Web] = []

    def make(huey: Any, **given: Any) -> Web:
        made.append(Web(HueyEngine(huey), **given))
        return made[-1]

    yield make
    for each in made:
        each.close()


def memory(**given: Any) -> Any:
    return hueys.MemoryHuey("in memory", **given)


def test_messages_that_are_not_signed_are_refused(tmp_path: Path) -> None:
    """They are pickles. The error shows what to write."""
    file = str(tmp_path / "huey.db")
    with pytest.raises(SettingsError, match=r"SqliteHuey\('x', serializer=SignedSerializer\("):
        HueyEngine(hueys.SqliteHuey("x", filename=file))
    HueyEngine(hueys.SqliteHuey("x", filename=file, **SIGNED))
    HueyEngine(memory())  # they stay in the process


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (object(), "accepts a huey.Huey or its dotted path, not <object"),
        (None, "not None"),
        ("huey", "'huey'.*cannot be imported"),
        ("tests.engines.huey_app.nothing", "no attribute 'nothing'"),
        ("tests.engines.huey_app.SECRET", "not 'of the tests'"),
    ],
)
def test_what_is_no_huey_is_refused(given: Any, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        HueyEngine(given)


def test_a_black_hole_is_refused() -> None:
    with pytest.raises(SettingsError, match="loses all tasks"):
        HueyEngine(hueys.BlackHoleHuey("x", **SIGNED))


def test_a_huey_may_be_named_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    huey = memory()
    monkeypatch.setattr(huey_app, "huey", huey, raising=False)
    assert HueyEngine("tests.engines.huey_app.huey").huey is huey


def test_an_immediate_huey_runs_what_it_gets(web: Any, tmp_path: Path) -> None:
    """In the thread that sends it, as often as it has attempts; nothing can wait there."""
    file = str(tmp_path / "huey.db")
    huey = hueys.SqliteHuey("x", filename=file, immediate=True, **SIGNED)
    application = web(huey)
    ids = {}
    for name, func, options in (
        ("ran", work.nothing, {}),
        ("failed", work.nothing_but_an_error, {"retries": 2}),
    ):
        ids[name] = application.send(func, **options)
    assert application.kinds(ids["ran"]) == ["added", "started", "succeeded", "sent"]
    kinds = application.kinds(ids["failed"])
    assert [kind for kind in kinds if kind != "started"] == [
        *("added", "retrying", "retrying", "failed", "sent"),
    ]
    with pytest.raises(TypeError, match="HueyEngine has no delay"):
        application.add(work.nothing, delay=1)


def test_a_huey_in_memory_has_its_consumer_in_the_process(web: Any) -> None:
    huey = memory()
    application = web(huey)
    with pytest.raises(TypeError, match="survive"):
        application.add(work.nothing, send="before_response")
    task_id = application.send(work.nothing)
    assert huey.pending_count() == 1
    thread = threading.Thread(target=lambda: huey.execute(huey.dequeue()))
    thread.start()
    thread.join(PATIENCE)
    assert application.kinds(task_id) == ["added", "sent", "started", "succeeded"]


def test_several_engines_may_have_one_huey(web: Any) -> None:
    """The consumer runs what each sends in the application of that."""
    huey = memory()
    first, second = web(huey, name="first"), web(huey, name="second")
    for each in (first, second):
        task_id = each.send(work.nothing)
        huey.execute(huey.dequeue())
        assert each.kinds(task_id) == ["added", "sent", "started", "succeeded"]


def test_without_an_application_nothing_is_run(our_log: OurLog) -> None:
    """It was set up in this process, and is there no more."""
    huey = memory()
    engine = HueyEngine(huey)
    Runtime(parse_settings({"engines": {"it": engine}}))
    gc.collect()
    task = engine.task_class(('{"application": "shop"}', 1))
    errors: list[str] = []
    huey.signal("error")(lambda _, __, exc: errors.append(str(exc)))
    huey.enqueue(task)
    huey.execute(huey.dequeue())
    assert errors == [
        "what has arrived cannot be run here: it is of the application 'shop', and this process "
        "has set up none that is still there"
    ]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"timeout": 1}, "timeout: write it where Huey makes the task"),
        ({"retries": 1, "backoff": lambda n, exc: 1.0}, "Huey takes a number of seconds"),
    ],
)
def test_what_huey_cannot_do_with_its_own_tasks(web: Any, options: Any, why: str) -> None:
    huey = memory()
    with pytest.raises(TypeError, match=why):
        web(huey).add(huey_app.own_of(huey), "x", **options)
    assert huey.pending_count() == 0


def test_a_task_of_another_huey_is_refused(web: Any) -> None:
    with pytest.raises(TypeError, match="it is a task of another Huey, 'other'"):
        web(memory()).add(huey_app.own_of(hueys.MemoryHuey("other")), "x")


def test_arguments_that_huey_cannot_pickle_are_refused(web: Any) -> None:
    huey = memory()
    with pytest.raises(TypeError, match="which Huey pickles"):
        web(huey).add(huey_app.own_of(huey), threading.Lock())
    assert huey.pending_count() == 0


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock of the machine is not that of Greenwich."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("utc", [True, False])
def test_the_options_of_a_task_of_its_own(web: Any, utc: bool) -> None:
    huey = memory(utc=utc)
    own = huey_app.own_of(huey)
    task_id = web(huey).send(own, "x", delay=3600, priority=7, retries=3, backoff=2.5)
    (task,) = huey.pending()
    assert (task.id, task.args, task.priority) == (task_id, ("x",), 7)
    assert (task.retries, task.retry_delay) == (3, 2.5)
    now = dt.datetime.now(dt.UTC if utc else None).replace(tzinfo=None)
    assert not huey.ready_to_run(task, now + dt.timedelta(minutes=59))
    assert huey.ready_to_run(task, now + dt.timedelta(minutes=61))


@pytest.mark.skipif(
    not hasattr(signals, "SIGNAL_ENQUEUED"), reason="this Huey does not tell that it has a task"
)
def test_who_waits_for_another_to_send_waits_for_so_long(tmp_path: Path) -> None:
    """Of a file that is locked each would wait in its turn."""
    began, may_go_on = threading.Event(), threading.Event()
    huey = hueys.SqliteHuey("x", filename=str(tmp_path / "huey.db"), **SIGNED)

    def hold(signal: str, task: Any) -> None:
        began.set()
        may_go_on.wait(PATIENCE)

    huey.signal("enqueued")(hold)
    engine = HueyEngine(huey, timeout=0.1)
    message = Message("1" * 32, "it", "{}", Options(), None, Call(work.nothing, (), {}), {})
    thread = threading.Thread(target=engine.send, args=[message])
    thread.start()
    assert began.wait(PATIENCE)
    with pytest.raises(EngineUnavailableError, match="another task has waited for as long"):
        engine.send(message)
    may_go_on.set()
    thread.join(PATIENCE)
    assert huey.pending_count() == 1
    huey.storage.close()


def test_a_pool_of_another_kind_is_used_as_it_is() -> None:
    """Such as that of Sentinel, which is made in a way of its own."""
    redis = pytest.importorskip("redis")

    class OwnPool(redis.ConnectionPool):  # type: ignore[misc,name-defined]  # there by its name
        made = 0

        def get_connection(self, *args: Any, **kwargs: Any) -> Any:
            OwnPool.made += 1
            return super().get_connection(*args, **kwargs)

    pool = OwnPool(host="127.0.0.1", port=1)
    engine = HueyEngine(hueys.RedisHuey("x", connection_pool=pool, **SIGNED))
    message = Message("1" * 32, "it", "{}", Options(), None, Call(work.nothing, (), {}), {})
    with pytest.raises(EngineUnavailableError):
        engine.send(message)
    assert OwnPool.made
    engine.close()


def test_priorities_below_zero_in_files(web: Any, tmp_path: Path) -> None:
    huey = hueys.FileHuey("x", path=str(tmp_path / "huey"), **SIGNED)
    application = web(huey)
    application.send(work.nothing, priority=3)
    with pytest.raises(TypeError, match="has them from 0"):
        application.add(work.nothing, priority=-1)
    assert huey.pending_count() == 1


@pytest.mark.parametrize("kind", ["process", "greenlet"])
def test_other_kinds_of_workers(tmp_path: Path, kind: str, web: Any) -> None:
    """Whatever Huey runs its tasks in, ours are called, awaited and tried again there."""
    if kind == "greenlet":
        pytest.importorskip("gevent")
    bench = SqliteBench(tmp_path)
    application = web(bench.huey)
    with bench.worker("-k", kind):
        ids = [
            application.send(func, **options)
            for func, options in (
                (work.note, {}),
                (work.anote, {}),
                (work.fail, {"retries": 1, "backoff": 0.0}),
                (work.take_long, {"timeout": 0.3}),
            )
        ]
        kinds = ("succeeded", "succeeded", "failed", "failed")
        for task_id, ends in zip(ids, kinds, strict=True):
            bench.wait_for(task_id, ends)
    assert len(bench.lines(ids[2], "ran")) == 2
    bench.close()
