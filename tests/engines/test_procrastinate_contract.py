"""What holds for every engine, with Procrastinate on a real PostgreSQL and its own worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bgadapters.engines import Engine
from bgadapters.engines.procrastinate import ProcrastinateEngine
from tests.engines.bench import Bench, until
from tests.engines.contract import EngineContract
from tests.engines.procrastinate_app import URL
from tests.engines.procrastinate_database import database, needs_postgresql

pytestmark = needs_postgresql


class ProcrastinateBench(Bench):
    """A database, and a worker of Procrastinate."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._stack = ExitStack()
        self._database = self._stack.enter_context(database())
        self._engines: list[Engine] = []

    @property
    def port(self) -> int:
        return 5432

    def engine(self, **given: Any) -> Engine:
        return self.engine_at(self.port, **given)

    def engine_at(self, port: int, **given: Any) -> Engine:
        url = self._database.url.replace(":5432", f":{port}")
        self._engines.append(ProcrastinateEngine(self._database.app(url), **given))
        return self._engines[-1]

    @contextmanager
    def worker(self) -> Iterator[Any]:
        command = ("-m", "procrastinate", "--verbose", "--app=tests.engines.procrastinate_app.app")
        environ = {URL: self._database.url}
        with self.process(*command, "worker", "--concurrency=1", **environ) as process:
            until(lambda: "Starting worker" in self.said(), self.said)
            yield process

    def waiting(self) -> int:
        return self._database.statuses().count("todo")

    def forge(self, payload: str) -> str:
        app = self._database.app()
        with app.open():
            return f"job {app.configure_task('bgadapters.run').defer(payload=payload)}"

    def has_failed(self, id: str) -> bool:  # noqa: A002
        query = "SELECT 'job ' || id, args->>'payload', status::text FROM procrastinate_jobs"
        found = self._database.all(query)
        return any(s == "failed" and (id in payload or id == job) for job, payload, s in found)

    def close(self) -> None:
        for each in self._engines:
            each.close()
        self._stack.close()


class TestContract(EngineContract):
    bench_type = ProcrastinateBench
