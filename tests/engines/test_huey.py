"""Huey as an engine, with its own consumer."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.engines.bench import Away, Bench, until
from tests.engines.contract import EngineContract

pytest.importorskip("huey")


from bgadapters.engines import Engine
from bgadapters.engines.huey import HueyEngine
from tests.engines import huey_app


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


class TestSqlite(EngineContract):
    bench_type = SqliteBench


class TestRedis(EngineContract):
    bench_type = RedisBench


class TestPriorityRedis(EngineContract):
    bench_type = PriorityRedisBench
