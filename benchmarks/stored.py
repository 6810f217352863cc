"""What a store costs requests: those with a durable task on real servers, and those without one."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import uvloop

from benchmarks.apps.durable_app import (
    ASYNC,
    DIRECTORY,
    DURABLE,
    FINISHED,
    PLAIN,
    SYNCED,
    make_fastapi,
    make_flask,
    store_in,
)
from benchmarks.apps.in_process import asgi_request, wsgi_request
from benchmarks.load import Client
from benchmarks.measure import Effort, Samples, percentile
from benchmarks.results import Table, cell
from benchmarks.server import running
from benchmarks.work import PATIENCE, LostTasksError

RATE = 100.0  # requests a second
_SECONDS = 2.5
_BLOCKS, _A_BLOCK = 60, 5  # of requests in process; those with and without a store take turns

HOSTS: dict[str, Sequence[str]] = {
    "uvicorn": (
        *("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log"),
        *("--factory", "benchmarks.apps.durable_app:asgi"),
    ),
    "gthread": (
        *("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error", "--threads", "8"),
        "benchmarks.apps.durable_app:wsgi()",
    ),
}


@contextmanager
def _directory() -> Iterator[str]:
    """A directory on the disk of the project, which the servers that are started find."""
    with tempfile.TemporaryDirectory(dir=".") as directory:
        os.environ[DIRECTORY] = os.path.realpath(directory)
        try:
            yield directory
        finally:
            del os.environ[DIRECTORY]


async def _p99(port: int, path: str, seconds: float) -> float:
    """The p99 of a view, in seconds. All of its tasks have run when it is known."""
    client = Client(port)
    before = await _finished(client)
    load = await client.open(path, RATE, max(10, int(RATE * seconds)))
    deadline = time.monotonic() + PATIENCE
    expected = before + len(load.latencies)
    while (found := await _finished(client)) < expected and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    client.close()
    if load.errors or found != expected:
        raise LostTasksError(f"{path}: {load.errors} errors, {found} tasks ran of {expected}")
    return percentile(load.latencies, 99)


async def _finished(client: Client) -> int:
    _, body = await client.get(FINISHED)
    return int(body)


def p99(effort: Effort) -> tuple[Table, dict[str, Samples]]:
    """Measure a view with a durable task beside one with a task in memory and an fsync."""
    rows, ratios = [], dict[str, Samples]()
    for host, command in HOSTS.items():
        values: dict[str, list[float]] = {path: [] for path in (PLAIN, SYNCED, DURABLE)}
        with (
            _directory(),
            running(command) as port,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            for path in values:
                runner.run(_p99(port, path, 0.2))
            for number in range(effort.rounds):
                paths = list(values) if number % 2 else list(reversed(values))
                for path in paths:
                    if path == PLAIN and number >= effort.fewer:  # it has no bar
                        continue
                    values[path].append(runner.run(_p99(port, path, _SECONDS * effort.size)))
        plain, synced, durable = (Samples(tuple(each)) for each in values.values())
        ratio = ratios[f"durable/p99/{host}"] = durable.per(synced)
        rows.append((host, *(cell(each, 1e3) for each in (plain, synced, durable)), cell(ratio)))
    title = f"p99 of a view at {RATE:.0f} requests/s, SQLite, synchronous=FULL"
    head = (
        *("server", "task in memory, ms", "and an fsync, ms", "durable task, ms"),
        "durable, of that with an fsync",
    )
    return Table(title, head, rows), ratios


@contextmanager
def _requesters(framework: str) -> Iterator[list[Callable[[], object]]]:
    """What makes some requests with a plain task: without a store, and with one."""
    with tempfile.TemporaryDirectory(dir=".") as directory:
        stores = None, store_in(directory)
        if framework == "FastAPI":
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                requests = [asgi_request(make_fastapi(store), ASYNC) for store in stores]
                yield [partial(_run, runner, request) for request in requests]
        else:
            apps = [wsgi_request(make_flask(store), PLAIN) for store in stores]
            yield [partial(_several, app) for app in apps]


def _run(runner: asyncio.Runner, request: Callable[[], Awaitable[None]]) -> None:
    async def some() -> None:
        for _ in range(_A_BLOCK):
            await request()

    runner.run(some())


def _several(request: Callable[[], object]) -> None:
    for _ in range(_A_BLOCK):
        request()


def _paired(requests: Sequence[Callable[[], object]], blocks: int) -> list[float]:
    """The seconds that each takes, where they take turns.

    That is the lower quartile of their blocks: what interferes only ever adds.
    """
    found: list[list[float]] = [[] for _ in requests]
    for number in range(blocks):
        order = range(len(requests)) if number % 2 else reversed(range(len(requests)))
        for place in order:
            started = time.perf_counter()
            requests[place]()
            found[place].append(time.perf_counter() - started)
    return [Samples(tuple(each)).quartiles[0] for each in found]


def without(effort: Effort) -> tuple[Table, dict[str, Samples]]:
    """Measure requests with a plain task in an application with a store, and in one without."""
    rows, ratios = [], dict[str, Samples]()
    for framework in ("FastAPI", "Flask"):
        with _requesters(framework) as requests:
            _paired(requests, 10)
            values = [_paired(requests, _BLOCKS) for _ in range(effort.rounds)]
        bare, stored = (Samples(tuple(each)) * (1 / _A_BLOCK) for each in zip(*values, strict=True))
        ratio = ratios[f"durable/without/{framework.lower()}"] = stored.per(bare)
        rows.append((framework, cell(bare, 1e6), cell(stored, 1e6), cell(ratio)))
    head = ("framework", "no store, us a request", "a store, us", "ratio")
    return Table("Requests with a plain task, in process", head, rows), ratios
