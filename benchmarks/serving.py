"""Requests a second and latency on real servers, with and without tasks."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import uvloop

from benchmarks.apps import celery_app, django_settings
from benchmarks.load import Client, Load
from benchmarks.measure import Effort, Samples, percentile
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.server import running
from benchmarks.work import PATIENCE, LostTasksError

OURS = "bgadapters"
NONE = "none"
CONNECTIONS = 8
_CLOSED_SECONDS = 0.5
_OPEN_SECONDS = {NONE: 2.5, "sleep": 2.5, "compute": 1.0}
_CLOSED_REQUESTS = {"sleep": 48, "compute": 12}
"""Requests of a closed loop whose tasks take 50 ms each, more than a server does meanwhile."""
_RATES = {NONE: 100.0, "sleep": 100.0, "compute": 8.0}
_NAMES = {
    NONE: "no task",
    "nothing": "no-op",
    "anothing": "async no-op",
    "sleep": "50 ms sleep",
    "compute": "50 ms CPU",
}


@dataclass(frozen=True)
class Host:
    """A framework on a server.

    Attributes:
        name: what the report calls it.
        command: the server's arguments, after ``python -m``.
        ways: how tasks are run there, by the first part of the path.
        tasks: the second part of the path.
        rate: the requests a second of open loops, compared with the others' 1.0.
    """

    name: str
    command: Sequence[str]
    ways: Sequence[str]
    tasks: Sequence[str] = ("nothing", "sleep", "compute")
    rate: float = 1.0


_FASTAPI = "benchmarks.apps.fastapi_app:app"
_FLASK = "benchmarks.apps.flask_app:application"
_DJANGO = "benchmarks.apps.django_app:application"
_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error")
_GRANIAN = ("granian", "--host", "127.0.0.1", "--port", "{port}", "--no-ws", "--log-level", "error")
_ASYNC_TASKS = ("nothing", "anothing", "sleep", "compute")

HOSTS = (
    Host(
        "FastAPI on uvicorn",
        ("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log", _FASTAPI),
        (OURS, "fastapi"),
        _ASYNC_TASKS,
    ),
    Host(
        "FastAPI on gunicorn, asgi",
        (*_GUNICORN, "-k", "asgi", _FASTAPI),
        (OURS, "fastapi"),
        _ASYNC_TASKS,
    ),
    Host(
        "FastAPI on granian",
        (*_GRANIAN, "--interface", "asgi", _FASTAPI),
        (OURS, "fastapi"),
        _ASYNC_TASKS,
    ),
    Host("Flask on gunicorn, sync", (*_GUNICORN, _FLASK), (OURS, "close"), rate=0.12),
    Host(
        "Flask on gunicorn, gthread",
        (*_GUNICORN, "--threads", "8", _FLASK),
        (OURS, "close", "thread", "executor", "celery"),
    ),
    Host(
        "Flask on waitress",
        ("waitress", "--threads", "8", "--listen", "127.0.0.1:{port}", _FLASK),
        (OURS, "close", "thread"),
    ),
    Host(
        "Flask on granian",
        (*_GRANIAN, "--interface", "wsgi", "--blocking-threads", "8", _FLASK),
        (OURS, "close", "thread"),
    ),
    Host(
        "Django on gunicorn, gthread",
        (*_GUNICORN, "--threads", "8", _DJANGO),
        (OURS, "close", "thread", "local"),
    ),
)
_WAYS = {
    OURS: "bgadapters",
    "fastapi": "FastAPI's BackgroundTasks",
    "close": "in close()",
    "thread": "a thread per task",
    "executor": "Flask-Executor",
    "celery": "Celery on Redis",
    "local": "django-tasks-local",
    NONE: "",
}


@dataclass
class Cell:
    """One way and task under one kind of load, over all rounds."""

    loads: list[Load] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)  # of the tasks, when the load ended

    @property
    def per_second(self) -> Samples:
        """Responses a second."""
        return Samples(tuple(len(load.latencies) / load.seconds for load in self.loads))

    def latency(self, percent: float) -> Samples:
        """A percentile of the latency in each round, in seconds."""
        return Samples(tuple(percentile(load.latencies, percent) for load in self.loads))

    def pooled(self, percent: float) -> float:
        """A percentile of all latencies, in seconds."""
        return percentile(itertools.chain(*(load.latencies for load in self.loads)), percent)

    @property
    def errors(self) -> int:
        """The requests of all rounds that got no response, or another status than 200."""
        return sum(load.errors for load in self.loads)


Key = tuple[str, str, str]
"""Way, task, and "closed" or "open"."""


def cells_of(host: Host) -> Iterator[Key]:
    """What is measured on a host."""
    for kind in ("closed", "open"):
        yield NONE, NONE, kind
        for way in host.ways:
            for task in host.tasks:
                if kind == "closed" or task in _RATES:
                    yield way, task, kind


def _rate(host: Host, task: str) -> float:
    """The requests a second of an open loop: less than the slowest way can bear."""
    return _RATES[task] if task == "compute" else _RATES[task] * host.rate


class Bench:
    """One server under load."""

    def __init__(self, host: Host, port: int, size: float) -> None:
        self._host = host
        self._port = port
        self._size = size

    async def measure(self, key: Key) -> tuple[Load, float]:
        """Put one load on it; returns the load and the part of its tasks that had finished then."""
        way, task, kind = key
        path = f"/{NONE}" if way == NONE else f"/{way}/{task}"
        client = Client(self._port)
        before = await self._finished(client, way)
        if kind == "open":
            rate = _rate(self._host, task)
            seconds = _OPEN_SECONDS[task] * self._size
            load = await client.open(path, rate, max(2, int(rate * seconds)))
        else:
            load = await client.closed(path, CONNECTIONS, self._enough(task))
        if way == NONE:
            return load, 1.0
        expected = len(load.latencies)
        at_end = await self._finished(client, way) - before
        await self._all_finished(client, way, before + expected)
        return load, min(1.0, at_end / max(1, expected))

    def _enough(self, task: str) -> Callable[[int], bool]:
        if task in _CLOSED_REQUESTS:
            most = max(CONNECTIONS, int(_CLOSED_REQUESTS[task] * self._size))
            return lambda sent: sent >= most
        end = time.perf_counter() + _CLOSED_SECONDS * self._size
        return lambda _: time.perf_counter() >= end

    async def _finished(self, client: Client, way: str) -> int:
        _, body = await client.get("/finished-celery" if way == "celery" else "/finished")
        client.close()
        return int(body)

    async def _all_finished(self, client: Client, way: str, expected: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while (finished := await self._finished(client, way)) < expected:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.02)
        if finished != expected:
            raise LostTasksError(
                f"{self._host.name}, {way}: {finished} tasks ran of {expected} that were added"
            )


def measure_host(host: Host, effort: Effort) -> dict[Key, Cell]:
    """Start a server and put every load on it, in interleaved rounds after one to warm up."""
    keys = list(cells_of(host))
    cells = {key: Cell() for key in keys}
    with ExitStack() as stack:
        port = stack.enter_context(running(host.command))
        if "celery" in host.ways:
            stack.enter_context(running(_CELERY))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        for key in keys:
            runner.run(Bench(host, port, 0.2 * effort.size).measure(key))
        bench = Bench(host, port, effort.size)
        for number in range(effort.rounds):
            first = number % len(keys)
            for key in keys[first:] + keys[:first]:
                load, finished = runner.run(bench.measure(key))
                cells[key].loads.append(load)
                cells[key].finished.append(finished)
    return cells


_CELERY = (
    *("celery", "--app", "benchmarks.apps.celery_app", "worker", "--concurrency", "8"),
    *("--pool", "threads", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"),
)


def _available(host: Host) -> Host:
    """The host without the ways that cannot be had here."""
    lacking = set()
    if not django_settings.HAS_TASKS:
        lacking.add("local")
    if "celery" in host.ways and not celery_app.is_there():
        lacking.add("celery")
    ways = [way for way in host.ways if way not in lacking]
    return Host(host.name, host.command, ways, host.tasks, host.rate)


def _closed_table(host: Host, cells: dict[Key, Cell]) -> Table:
    bare = cells[NONE, NONE, "closed"].per_second
    rows = [
        (
            _NAMES[task],
            _WAYS[way],
            cell(each.per_second),
            cell(each.per_second.per(bare)),
            f"{each.pooled(50) * 1e3:.3g}",
            f"{each.pooled(99) * 1e3:.3g}",
            str(each.errors),
            "" if way == NONE else f"{Samples(tuple(each.finished)).median:.0%}",
        )
        for (way, task, kind), each in _sorted(cells)
        if kind == "closed"
    ]
    head = (
        "task",
        "run by",
        "requests/s",
        "of no task",
        "p50, ms",
        "p99, ms",
        "errors",
        "finished",
    )
    return Table(f"{host.name}, closed loop", head, rows)


def _open_table(host: Host, cells: dict[Key, Cell]) -> Table:
    bare = cells[NONE, NONE, "open"]
    rows = [
        (
            _NAMES[task],
            _WAYS[way],
            f"{_rate(host, task):.3g}",
            f"{each.pooled(50) * 1e3:.3g}",
            cell(each.latency(99), 1e3),
            f"{each.pooled(99) * 1e3:.3g}",
            cell(each.latency(99).per(bare.latency(99))),
            str(each.errors),
            "" if way == NONE else f"{Samples(tuple(each.finished)).median:.0%}",
        )
        for (way, task, kind), each in _sorted(cells)
        if kind == "open"
    ]
    head = (
        *("task", "run by", "requests/s", "p50, ms", "p99 of a round, ms", "p99 of all, ms"),
        *("p99, of no task", "errors", "finished"),
    )
    return Table(f"{host.name}, open loop", head, rows)


def _sorted(cells: dict[Key, Cell]) -> list[tuple[Key, Cell]]:
    tasks = list(_NAMES)
    return sorted(cells.items(), key=lambda item: tasks.index(item[0][1]))


def _plots(found: dict[str, dict[Key, Cell]]) -> list[Plot]:
    throughput: dict[str, list[tuple[float | str, Samples]]] = {}
    tail: dict[str, list[tuple[float | str, Samples]]] = {}
    for host, cells in found.items():
        bare = cells[NONE, NONE, "closed"].per_second
        idle = cells[NONE, NONE, "open"].latency(99)
        for (way, task, kind), each in cells.items():
            if (task, kind) == ("nothing", "closed"):
                throughput.setdefault(_WAYS[way], []).append((host, each.per_second.per(bare)))
            if (task, kind) == ("sleep", "open"):
                tail.setdefault(_WAYS[way], []).append((host, each.latency(99).per(idle)))
    return [
        Plot(
            "serving-throughput",
            "Requests a second with one no-op task, of those without",
            ("", "of the same view without a task"),
            throughput,
            is_logarithmic=False,
        ),
        Plot(
            "serving-p99",
            "p99 at a constant rate with one 50 ms task, of that without",
            ("", "times the p99 without a task"),
            tail,
        ),
    ]


def _ratios(found: dict[str, dict[Key, Cell]]) -> dict[str, Samples]:
    ratios = {}
    for host, cells in found.items():
        if host.startswith("FastAPI"):
            for task in ("nothing", "anothing"):
                ours, theirs = (cells[way, task, "closed"].per_second for way in (OURS, "fastapi"))
                ratios[f"{host}/{task}"] = ours.per(theirs)
        ours, bare = (
            cells[key].latency(99) for key in ((OURS, "sleep", "open"), (NONE, NONE, "open"))
        )
        ratios[f"{host}/p99"] = ours.per(bare)
    return ratios


def measure(effort: Effort, hosts: Sequence[Host] = HOSTS) -> Topic:
    """Measure every host."""
    available = [_available(host) for host in hosts]
    found = {host.name: measure_host(host, effort) for host in available}
    tables = []
    for host in available:
        tables.append(_closed_table(host, found[host.name]))
        tables.append(_open_table(host, found[host.name]))
    return Topic(
        "Requests per second and latency",
        f"One process serves, this one sends. Closed loop: {CONNECTIONS} connections, each with "
        "one request after the other, kept where the server keeps them; with 50 ms of work so many "
        "requests that the work outlasts the responses. Open loop: requests are due at a constant "
        "rate, and latencies count from the moment a request was due. *finished* is the part of "
        "the tasks that had run when the last response came; all others were waited for and "
        "counted.",
        tables,
        _plots(found),
        _ratios(found),
    )
