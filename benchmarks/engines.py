"""What it costs a request to send a task to an engine, after the response and in the view."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.load import Client
from benchmarks.measure import Effort, Samples, percentile
from benchmarks.results import Table, Topic, cell
from benchmarks.server import running

_RATE = 100.0
_SECONDS = 3.0
_CLIENTS = 8
_REQUESTS = 800
_WAYS = ("none", "ours", "theirs")
_BROKER = os.environ.get("BENCH_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
_POSTGRES = os.environ.get("BENCH_POSTGRES", "postgresql://postgres@127.0.0.1:5432")
_APP = "benchmarks.apps.engines_app"
HOSTS = {
    "FastAPI on uvicorn": (
        "uvicorn",
        "--port",
        "{port}",
        "--log-level",
        "error",
        f"{_APP}:fastapi_app",
    ),
    "Flask on gunicorn gthread": (
        *("gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "8", "--log-level", "error"),
        *("--no-control-socket", f"{_APP}:flask_app"),
    ),
}


@contextmanager
def _file() -> Iterator[str]:
    with TemporaryDirectory() as directory:
        yield str(Path(directory) / "huey.db")


@contextmanager
def _broker() -> Iterator[str]:
    """RabbitMQ; what was sent is thrown away."""
    from kombu import Connection  # type: ignore[attr-defined]  # which it does export

    connect: Any = Connection
    with connect(_BROKER, connect_timeout=2) as connection:
        connection.ensure_connection(max_retries=1)
        try:
            yield _BROKER
        finally:
            connection.channel().queue_delete("bgadapters-bench-engines")


@contextmanager
def _database() -> Iterator[str]:
    """A database of PostgreSQL of its own, with the tables of Procrastinate."""
    import psycopg
    from procrastinate import App, SyncPsycopgConnector

    name = f"bench_{uuid.uuid4().hex[:12]}"
    connect: Any = psycopg.connect
    with connect(f"{_POSTGRES}/postgres", autocommit=True, connect_timeout=2) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            url = f"{_POSTGRES}/{name}"
            with App(connector=SyncPsycopgConnector(conninfo=url)).open() as app:
                app.schema_manager.apply_schema()
            yield url
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


PLACES: dict[str, Callable[[], Any]] = {
    "huey": _file,
    "celery": _broker,
    "procrastinate": _database,
}
_TITLES = {
    "huey": "Huey, SQLite",
    "celery": "Celery, RabbitMQ",
    "procrastinate": "Procrastinate, PostgreSQL",
}


async def _load(port: int, way: str, size: float) -> tuple[float, float]:
    """The 99th percentile at a constant rate, and the requests a second without one."""
    client = Client(port)
    await client.open(f"/{way}", _RATE, 20)
    open_loop = await client.open(f"/{way}", _RATE, max(20, int(_RATE * _SECONDS * size)))
    enough = max(40, int(_REQUESTS * size))
    closed = await client.closed(f"/{way}", _CLIENTS, lambda sent: sent >= enough)
    if open_loop.errors or closed.errors:
        raise RuntimeError(f"{open_loop.errors + closed.errors} requests to /{way} failed")
    return percentile(open_loop.latencies, 99), len(closed.latencies) / closed.seconds


def _measured(
    host: str, engine: str, place: str, effort: Effort
) -> dict[str, tuple[Samples, Samples]]:
    os.environ.update(BENCH_ENGINE=engine, BENCH_PLACE=place)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
    with running(HOSTS[host]) as port:
        for _ in range(effort.rounds):
            for way in _WAYS:
                found[way].append(asyncio.run(_load(port, way, effort.size)))
    return {
        way: (Samples(tuple(p for p, _ in each)), Samples(tuple(r for _, r in each)))
        for way, each in found.items()
    }


def measure(effort: Effort) -> Topic:
    """Measure each engine that is there, on each host."""
    rows, ratios, skipped = [], dict[str, Samples](), []
    for engine, title in _TITLES.items():
        try:
            with PLACES[engine]() as place:
                for host in HOSTS:
                    found = _measured(host, engine, place, effort)
                    (p99, rate), (their_p99, their_rate) = found["ours"], found["theirs"]
                    key = f"engines/{title}, {host}"
                    ratios[f"{key}/p99"] = p99.per(their_p99)
                    rows += [
                        (title, host, what, cell(p, 1e3), cell(r))
                        for what, (p, r) in (
                            ("no task", found["none"]),
                            ("ours, after the response", (p99, rate)),
                            ("the engine's own, in the view", (their_p99, their_rate)),
                        )
                    ]
        except (OSError, ImportError) as exc:  # psycopg's and kombu's are OSErrors, or have one
            skipped.append(f"{title}: {exc}")
    head = ("engine", "host", "sent by", "p99 at 100/s, ms", "requests/s")
    note = f" Left out: {'; '.join(skipped)}." if skipped else ""
    return Topic(
        "Tasks for engines",
        "A view sends one task that does nothing: with this library after the response, or by the "
        "engine's own call in the view. Nobody runs the tasks, so that only sending is measured. "
        f"p99 at a constant rate; requests a second with {_CLIENTS} connections.{note}",
        [Table("A request that sends a task", head, rows)],
        [],
        ratios,
    )
