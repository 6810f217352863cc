"""What it costs a request to send a task to an engine, after the response and in the view."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.load import Client
from benchmarks.measure import Effort, Samples, percentile
from benchmarks.results import Table, Topic, cell
from benchmarks.server import running
from benchmarks.work import PATIENCE, LostTasksError

_RATE = 100.0
_SECONDS = 1.2
_CLIENTS = 8
_REQUESTS = 200
_WARM_UP = 0.2  # of a round
_WAYS = ("none", "ours", "theirs")
_BROKER = os.environ.get("BENCH_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
_POSTGRES = os.environ.get("BENCH_POSTGRES", "postgresql://postgres@127.0.0.1:5432")
_APP = "benchmarks.apps.engines_app"
_UVICORN, _GTHREAD = "FastAPI on uvicorn", "Flask on gunicorn gthread"
HOSTS = {
    _UVICORN: ("uvicorn", "--port", "{port}", "--log-level", "error", f"{_APP}:fastapi_app"),
    _GTHREAD: (
        *("gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "8", "--log-level", "error"),
        *("--no-control-socket", f"{_APP}:flask_app"),
    ),
}


class Engine(NamedTuple):
    """An engine that is measured.

    Attributes:
        title: what the report calls it.
        place: where its tasks go: a context manager that yields what the application is told.
        hosts: what it is measured on.
        theirs: the call in the view that it is measured beside.
    """

    title: str
    place: Callable[[], AbstractContextManager[str]]
    hosts: Sequence[str]
    theirs: str = "the engine's own call"


class UnreachableError(Exception):
    """What an engine needs does not answer here."""


@contextmanager
def _reaching(refused: type[Exception]) -> Iterator[None]:
    try:
        yield
    except refused as exc:
        raise UnreachableError(str(exc).partition("\n")[0]) from exc


@contextmanager
def _here() -> Iterator[str]:
    """This machine: there is nothing to set up."""
    yield ""


@contextmanager
def _file() -> Iterator[str]:
    with TemporaryDirectory() as directory:
        yield str(Path(directory) / "huey.db")


@contextmanager
def _broker() -> Iterator[str]:
    """RabbitMQ; what was sent is thrown away."""
    from kombu import Connection  # type: ignore[attr-defined]  # which it does export
    from kombu.exceptions import OperationalError

    connect: Any = Connection
    with connect(_BROKER, connect_timeout=2) as connection:
        with _reaching(OperationalError):
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
    with _reaching(psycopg.OperationalError):
        opened = connect(f"{_POSTGRES}/postgres", autocommit=True, connect_timeout=2)
    with opened as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            url = f"{_POSTGRES}/{name}"
            with App(connector=SyncPsycopgConnector(conninfo=url)).open() as app:
                app.schema_manager.apply_schema()
            yield url
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


ENGINES = {
    "process": Engine("Processes", _here, (_UVICORN,), "a ProcessPoolExecutor's `submit`"),
    "huey": Engine("Huey, SQLite", _file, (_UVICORN,)),
    "celery": Engine("Celery, RabbitMQ", _broker, (_UVICORN, _GTHREAD)),
    "procrastinate": Engine("Procrastinate, PostgreSQL", _database, (_UVICORN, _GTHREAD)),
}


async def _load(port: int, way: str, size: float) -> tuple[float, float]:
    """The 99th percentile at a constant rate, and the requests a second without one."""
    client = Client(port)
    open_loop = await client.open(f"/{way}", _RATE, max(20, int(_RATE * _SECONDS * size)))
    enough = max(40, int(_REQUESTS * size))
    closed = await client.closed(f"/{way}", _CLIENTS, lambda sent: sent >= enough)
    if open_loop.errors or closed.errors:
        raise RuntimeError(f"{open_loop.errors + closed.errors} requests to /{way} failed")
    await _all_sent(client)
    return percentile(open_loop.latencies, 99), len(closed.latencies) / closed.seconds


async def _all_sent(client: Client) -> None:
    """Wait until no task is left to be sent: it would be so beside what is measured next."""
    deadline = time.monotonic() + PATIENCE
    while waiting := int((await client.get("/waiting"))[1]):
        if time.monotonic() > deadline:
            raise LostTasksError(f"{waiting} tasks were not sent")
        await asyncio.sleep(0.02)
    client.close()


def _measured(
    host: str, engine: str, place: str, effort: Effort
) -> dict[str, tuple[Samples, Samples]]:
    os.environ.update(BENCH_ENGINE=engine, BENCH_PLACE=place)
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
    with running(HOSTS[host]) as port:
        for way in _WAYS:
            asyncio.run(_load(port, way, _WARM_UP * effort.size))
        for number in range(effort.rounds):
            first = number % len(_WAYS)
            for way in _WAYS[first:] + _WAYS[:first]:
                if way != "none" or number < effort.fewer:  # it has no bar
                    found[way].append(asyncio.run(_load(port, way, effort.size)))
    return {
        way: (Samples(tuple(p for p, _ in each)), Samples(tuple(r for _, r in each)))
        for way, each in found.items()
    }


def measure(effort: Effort) -> Topic:
    """Measure each engine that is there, on each host."""
    rows, ratios, skipped = [], dict[str, Samples](), []
    for name, engine in ENGINES.items():
        try:
            with engine.place() as place:
                for host in engine.hosts:
                    found = _measured(host, name, place, effort)
                    (p99, rate), (their_p99, their_rate) = found["ours"], found["theirs"]
                    ratio = ratios[f"engines/{engine.title}, {host}/p99"] = p99.per(their_p99)
                    rows += [
                        (engine.title, host, what, cell(p, 1e3), cell(r), of)
                        for what, (p, r), of in (
                            ("no task", found["none"], ""),
                            ("ours, after the response", (p99, rate), cell(ratio)),
                            (f"{engine.theirs}, in the view", (their_p99, their_rate), ""),
                        )
                    ]
        except (UnreachableError, ImportError) as exc:
            skipped.append(f"{engine.title}: {exc}")
    head = (
        *("engine", "host", "sent by", "p99 at 100/s, ms", "requests/s"),
        "p99, of their call",
    )
    note = f" Left out: {'; '.join(skipped)}." if skipped else ""
    return Topic(
        "Tasks for engines",
        "A view sends one task that does nothing: with this library after the response, or by the "
        "engine's own call in the view. Nobody runs the tasks, but for processes: what is measured "
        f"is sending. p99 at a constant rate, in each of {effort.rounds} rounds, in which the "
        f"three take turns; requests a second with {_CLIENTS} connections. What is left to be sent "
        f"then is waited for.{note}",
        [Table("A request that sends a task", head, rows)],
        [],
        ratios,
    )
