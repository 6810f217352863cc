"""Requests a second and latency on real servers, with and without tasks."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

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
_WARM_UP = 0.2  # of a round
_CLOSED_SECONDS = 0.3
_OPEN_SECONDS = {NONE: 1.5, "sleep": 1.5, "compute": 1.0}
_RATES = {NONE: 100.0, "sleep": 100.0, "compute": 8.0}
"""Requests a second of an open loop: less than the slowest way can bear."""
_NAMES = {
    NONE: "no task",
    "nothing": "no-op",
    "anothing": "async no-op",
    "sleep": "50 ms sleep",
    "compute": "50 ms CPU",
}


@dataclass(frozen=True)
class Host:
    """A framework on a server, and the ways to run tasks that are measured there.

    A closed loop has tasks that do nothing: of others it would measure the tasks.

    Attributes:
        name: what the report calls it.
        command: the server's arguments, after ``python -m``.
        closed: the ways whose requests a second are measured, as the first parts of paths.
        sleep: the ways whose latency is, with tasks that sleep.
        compute: those with tasks that compute.
        has_async: whether requests a second are measured with async tasks as well.
    """

    name: str
    command: Sequence[str]
    closed: Sequence[str]
    sleep: Sequence[str] = (OURS,)
    compute: Sequence[str] = ()
    has_async: bool = False

    @property
    def ways(self) -> set[str]:
        """Every way that is measured there."""
        return {*self.closed, *self.sleep, *self.compute}

    def without(self, lacking: Collection[str]) -> Host:
        """The host without some ways."""
        closed, sleep, compute = (
            [way for way in ways if way not in lacking]
            for ways in (self.closed, self.sleep, self.compute)
        )
        return replace(self, closed=closed, sleep=sleep, compute=compute)


_FASTAPI = "benchmarks.apps.fastapi_app:app"
_FLASK = "benchmarks.apps.flask_app:application"
_DJANGO = "benchmarks.apps.django_app:application"
_DJANGO_ASGI = "benchmarks.apps.django_asgi_app:application"
_UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log")
_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error")
_GRANIAN = ("granian", "--host", "127.0.0.1", "--port", "{port}", "--no-ws", "--log-level", "error")

HOSTS = (
    Host(
        "FastAPI on uvicorn",
        (*_UVICORN, _FASTAPI),
        closed=(OURS, "fastapi"),
        sleep=(OURS, "fastapi"),
        compute=(OURS, "fastapi"),
        has_async=True,
    ),
    Host(
        "FastAPI on gunicorn, asgi",
        (*_GUNICORN, "-k", "asgi", _FASTAPI),
        closed=(OURS, "fastapi"),
        has_async=True,
    ),
    Host(
        "FastAPI on granian",
        (*_GRANIAN, "--interface", "asgi", _FASTAPI),
        closed=(OURS, "fastapi"),
        has_async=True,
    ),
    Host("Flask on gunicorn, sync", (*_GUNICORN, _FLASK), closed=(OURS, "close")),
    Host(
        "Flask on gunicorn, gthread",
        (*_GUNICORN, "--threads", "8", _FLASK),
        closed=(OURS, "close", "thread", "executor", "celery"),
        sleep=(OURS, "close", "executor", "celery"),
        compute=(OURS, "executor"),
    ),
    Host(
        "Flask on waitress",
        ("waitress", "--threads", "8", "--listen", "127.0.0.1:{port}", _FLASK),
        closed=(OURS, "close"),
    ),
    Host(
        "Flask on granian",
        (*_GRANIAN, "--interface", "wsgi", "--blocking-threads", "8", _FLASK),
        closed=(OURS, "close"),
    ),
    Host(
        "Django on gunicorn, gthread",
        (*_GUNICORN, "--threads", "8", _DJANGO),
        closed=(OURS, "close", "local"),
        sleep=(OURS, "local"),
        compute=(OURS, "local"),
    ),
    Host(
        "Django on uvicorn",
        (*_UVICORN, _DJANGO_ASGI),
        closed=(OURS, "close", "local"),
        sleep=(OURS, "local"),
    ),
    Host("Django on gunicorn, asgi", (*_GUNICORN, "-k", "asgi", _DJANGO_ASGI), closed=(OURS,)),
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
    yield NONE, NONE, "closed"
    for task in ("nothing", "anothing") if host.has_async else ("nothing",):
        yield from ((way, task, "closed") for way in host.closed)
    yield NONE, NONE, "open"
    yield from ((way, "sleep", "open") for way in host.sleep)
    yield from ((way, "compute", "open") for way in host.compute)


def has_bar(host: Host, key: Key) -> bool:
    """Whether a bar is about it; those of requests a second are about FastAPI's own tasks."""
    way, task, kind = key
    if kind == "closed":
        return way != NONE and "fastapi" in host.closed
    return way == NONE or (way == OURS and task == "sleep")


def rounds_of(host: Host, key: Key, effort: Effort) -> int:
    """In how many rounds it is measured."""
    return effort.rounds if has_bar(host, key) else effort.fewer


def seconds_of(host: Host, effort: Effort) -> float:
    """The time that the loads on a host take by themselves, without what is between them."""
    each = sum(
        (rounds_of(host, (way, task, kind), effort) + _WARM_UP)
        * (_CLOSED_SECONDS if kind == "closed" else _OPEN_SECONDS[task])
        for way, task, kind in cells_of(host)
    )
    return each * effort.size


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
            rate, seconds = _RATES[task], _OPEN_SECONDS[task] * self._size
            load = await client.open(path, rate, max(2, int(rate * seconds)))
        else:
            end = time.perf_counter() + _CLOSED_SECONDS * self._size
            load = await client.closed(path, CONNECTIONS, lambda _: time.perf_counter() >= end)
        if way == NONE:
            return load, 1.0
        expected = len(load.latencies)
        at_end = await self._finished(client, way) - before
        await self._all_finished(client, way, before + expected)
        return load, min(1.0, at_end / max(1, expected))

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
            runner.run(Bench(host, port, _WARM_UP * effort.size).measure(key))
        bench = Bench(host, port, effort.size)
        for number in range(effort.rounds):
            first = number % len(keys)
            for key in keys[first:] + keys[:first]:
                if number >= rounds_of(host, key, effort):
                    continue
                load, finished = runner.run(bench.measure(key))
                cells[key].loads.append(load)
                cells[key].finished.append(finished)
    return cells


_CELERY = (
    *("celery", "--app", "benchmarks.apps.celery_app", "worker", "--concurrency", "8"),
    *("--pool", "threads", "--loglevel", "ERROR", "--without-gossip", "--without-mingle"),
)


_NEEDS = {
    "celery": "Redis does not answer, so Celery was not compared.",
    "local": "django-tasks-local needs Django 6, hence Python 3.12: it was not compared.",
}


def _lacking() -> set[str]:
    """The ways that cannot be had here."""
    is_there = {"local": django_settings.HAS_TASKS, "celery": celery_app.is_there()}
    return {way for way, is_here in is_there.items() if not is_here}


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
            f"{_RATES[task]:.3g}",
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
    lacking = _lacking()
    available = [host.without(lacking) for host in hosts]
    found = {host.name: measure_host(host, effort) for host in available}
    tables = []
    for host in available:
        tables.append(_closed_table(host, found[host.name]))
        tables.append(_open_table(host, found[host.name]))
    missing = "".join(f" {_NEEDS[way]}" for way in sorted(lacking))
    return Topic(
        "Requests per second and latency",
        f"One process serves, this one sends. Closed loop: {CONNECTIONS} connections, each with "
        "one request after the other, kept where the server keeps them; tasks do nothing. Open "
        "loop: requests are due at a constant rate, and latencies count from the moment a request "
        "was due. *finished* is the part of the tasks that had run when the last response came; "
        f"all others were waited for and counted. {effort.rounds} rounds, {effort.fewer} of what "
        "has no bar: the p99 of a round is given as their median with its quartiles, and once that "
        f"of all requests.{missing}",
        tables,
        _plots(found),
        _ratios(found),
    )
