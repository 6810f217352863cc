"""What tasks that compute do to the other requests of their server."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.apps.unwatched import unwatch
from benchmarks.load import Client, Load
from benchmarks.measure import Effort, Samples, interleave, percentile, seconds
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.server import running
from benchmarks.work import PATIENCE, TALLY, LostTasksError
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime

_PROBES = 100.0  # requests a second to another view
_OURS = "bgadapters"
_BEFORE = "bgadapters, where nobody looks"
_PROCESSES = "bgadapters, in processes"
_FASTAPI = "FastAPI's BackgroundTasks"
_EXECUTOR = "Flask-Executor"
_THREAD = "a thread a task"


@dataclass(frozen=True)
class Beside:
    """What tasks another view is asked beside.

    Attributes:
        rate: tasks a second that compute.
        sleepers: tasks that sleep, over all the time.
    """

    rate: int = 0
    sleepers: int = 0

    def __str__(self) -> str:
        parts = [f"{self.rate} a second that compute"] if self.rate else []
        if self.sleepers:
            parts.append(f"{self.sleepers:,} that sleep")
        return ", and ".join(parts)


_MOST = Beside(30)
_MIXED = Beside(30, 1_000)
_SLEEP = Beside(0, 1_000)
_CURVE = (Beside(12), _MOST)


@dataclass(frozen=True)
class Way:
    """A way to run tasks on a server.

    Attributes:
        app: the application.
        path: the first part of its path.
        besides: what it is measured with.
    """

    app: str
    path: str
    besides: Sequence[Beside]


@dataclass(frozen=True)
class Host:
    """A server.

    Attributes:
        command: its arguments, after ``python -m``, but the application.
        ways: how tasks are run there, by name. The first is this library's.
        seconds: how long each is measured.
        rounds: and how often, at most; once where there is no bar.
        is_busy: whether a connection may stay busy until tasks have run, so that each request that
            adds one makes its own. Else they are kept, as behind a proxy: to accept hundreds a
            second is more than a threaded server does beside one thread that computes.
    """

    command: Sequence[str]
    ways: Mapping[str, Way]
    seconds: float
    rounds: int
    is_busy: bool = False


_FASTAPI_APP = "benchmarks.apps.fastapi_app:app"
_FLASK_APP = "benchmarks.apps.flask_app:application"
_ON_FLASK = {
    _OURS: Way(_FLASK_APP, "bgadapters", (_MOST, _MIXED, _SLEEP)),
    _EXECUTOR: Way(_FLASK_APP, "executor", (_MOST, _MIXED, _SLEEP)),
    _THREAD: Way(_FLASK_APP, "thread", (_MOST, _MIXED)),
}
_UVICORN = "FastAPI on uvicorn"
HOSTS = {
    _UVICORN: Host(
        ("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log"),
        {
            _OURS: Way(_FASTAPI_APP, "bgadapters", (*_CURVE, _MIXED, _SLEEP)),
            _FASTAPI: Way(_FASTAPI_APP, "fastapi", (*_CURVE, _MIXED, _SLEEP)),
            _BEFORE: Way("benchmarks.apps.unwatched_app:app", "bgadapters", (_MOST,)),
            _PROCESSES: Way("benchmarks.apps.process_app:app", "process", (_MOST,)),
        },
        6.0,
        2,
        is_busy=True,
    ),
    "Flask on gunicorn, gthread": Host(
        (
            *("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error"),
            *("--threads", "16", "--no-control-socket"),
            *("--keep-alive", "30"),  # none ends just as it is used
        ),
        _ON_FLASK,
        3.0,
        3,
    ),
    "Flask on waitress": Host(
        (
            *("waitress", "--threads", "16", "--listen", "127.0.0.1:{port}"),
            # At its limit of 100, what comes waits until others have closed theirs, which are kept.
            *("--connection-limit", "2000", "--asyncore-use-poll"),
        ),
        _ON_FLASK,
        3.0,
        3,
    ),
}

Found = dict[tuple[Beside, str], Samples]
"""The 99th percentile of another view in each round, in seconds, by what it was and the way."""


async def _add(port: int, path: str, rate: float, count: int, kept: Client | None) -> None:
    """Add tasks at a constant rate, each by a connection of its own if none are kept."""
    first = time.perf_counter()

    async def one(number: int) -> None:
        await asyncio.sleep(first + number / rate - time.perf_counter())
        client = kept or Client(port)
        await client.get(path)
        if kept is None:
            client.close()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def _finished(port: int, expected: int) -> None:
    deadline = time.monotonic() + PATIENCE
    client = Client(port)
    while (finished := int((await client.get("/finished"))[1])) < expected:
        if time.monotonic() > deadline:
            raise LostTasksError(f"{finished} tasks ran of {expected} that were added")
        await asyncio.sleep(0.02)
    client.close()


async def measure_load(
    port: int, way: str, rate: float, length: float, sleepers: int, is_busy: bool = True
) -> Load:
    """Have tasks compute while another view is asked; return what that found.

    Args:
        port: the server's.
        way: the first part of the path.
        rate: tasks a second.
        length: for so many seconds.
        sleepers: tasks that sleep, in the same time.
        is_busy: see `Host`.
    """
    client = Client(port)
    kept = None if is_busy else Client(port)
    before = int((await client.get("/finished"))[1])
    computing = round(rate * length)
    async with asyncio.TaskGroup() as group:
        if computing:
            group.create_task(_add(port, f"/{way}/compute", rate, computing, kept))
        if sleepers:
            per_second = sleepers / length
            group.create_task(_add(port, f"/{way}/sleep", per_second, sleepers, kept))
        probes = group.create_task(client.open("/none", _PROBES, int(_PROBES * length)))
    if kept is not None:
        kept.close()
    await _finished(port, before + computing + sleepers)
    return probes.result()


def measure_host(host: Host, effort: Effort) -> Found:
    """Measure all ways of a host by turns; servers are new each time."""
    found: dict[tuple[Beside, str], list[float]] = {}
    for number in range(min(host.rounds, effort.rounds)):
        for beside, name, way in _cells(host):
            if number and (beside == _SLEEP or name == _PROCESSES):  # there is no bar
                continue
            latencies = _latencies(host, way, beside, max(1.0, host.seconds * effort.size))
            found.setdefault((beside, name), []).append(percentile(latencies, 99))
    return {key: Samples(tuple(values)) for key, values in found.items()}


def _cells(host: Host) -> Iterator[tuple[Beside, str, Way]]:
    for beside in dict.fromkeys(each for way in host.ways.values() for each in way.besides):
        for name, way in host.ways.items():
            if beside in way.besides:
                yield beside, name, way


def _latencies(host: Host, way: Way, beside: Beside, length: float) -> list[float]:
    import uvloop  # which is not there where the rest of this module is tested

    with ExitStack() as stack:
        port = stack.enter_context(running((*host.command, way.app)))
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(Client(port).open("/none", _PROBES, 20))
        sleepers = round(beside.sleepers * length / host.seconds)
        load = runner.run(measure_load(port, way.path, beside.rate, length, sleepers, host.is_busy))
    return load.latencies


def _table(name: str, host: Host, found: Found) -> Table:
    rows = [
        (str(beside), way, cell(each, 1e3), cell(found[beside, _OURS].per(each)))
        for (beside, way), each in found.items()
    ]
    note = f"For {host.seconds:g} s."
    return Table(
        f"{name}, p99 of another view", ("tasks", "run by", "p99, ms", "ours, of that"), rows, note
    )


def _plots(found: Mapping[str, Found]) -> list[Plot]:
    curve = found[_UVICORN]
    bars: dict[str, list[tuple[float | str, Samples]]] = {}
    for name, of_host in found.items():
        for (beside, way), each in of_host.items():
            if beside in {_MOST, _MIXED, _SLEEP} and way not in {_BEFORE, _PROCESSES}:
                bars.setdefault(way, []).append((f"{name}:\n{beside}", each * 1e3))
    return [
        Plot(
            "beside-p99",
            "p99 of another view beside tasks that compute for 50 ms, FastAPI on uvicorn",
            ("tasks a second", "ms"),
            {
                way: [(beside.rate, curve[beside, way] * 1e3) for beside in _CURVE]
                for way in (_OURS, _FASTAPI)
            },
            is_logarithmic=False,
        ),
        Plot(
            "beside-hosts",
            "p99 of another view beside tasks that compute for 50 ms, or sleep",
            ("", "ms"),
            bars,
        ),
    ]


def _squeeze() -> None:
    """Compute without the interpreter's lock."""
    zlib.compress(_DATA, 9)
    TALLY.note()


def _sleep() -> None:
    time.sleep(0.01)
    TALLY.note()


_DATA = bytes(range(256)) * 400
_HARMLESS: dict[str, tuple[Callable[[], None], int]] = {
    "sleep": (_sleep, 400),
    "zlib": (_squeeze, 300),
}
"""Tasks that are in nobody's way, and how many of them one measurement runs."""


def _run_all(runtime: Runtime, task: Callable[[], None], count: int) -> float:
    def all_of_them() -> None:
        TALLY.expect(count)
        for _ in range(count):
            queue = BackgroundTasks(runtime=runtime)
            queue.add_task(task)
            queue.release()
        TALLY.wait()

    return seconds(all_of_them)


def _harmless(effort: Effort) -> tuple[Table, dict[str, Samples]]:
    """What is in nobody's way, where somebody looks for what is, and where nobody does."""
    watched, unwatched = Runtime(), Runtime()
    unwatch(unwatched)
    found = interleave(
        {
            f"{name}/{who}": partial(_run_all, runtime, task, max(16, int(count * effort.size)))
            for name, (task, count) in _HARMLESS.items()
            for who, runtime in (("watched", watched), ("unwatched", unwatched))
        },
        effort.rounds,
    )
    ratios = {
        f"watched/{name}": found[f"{name}/watched"].per(found[f"{name}/unwatched"])
        for name in _HARMLESS
    }
    rows = [
        (
            name,
            *(
                cell(found[f"{name}/{who}"], 1e3 / max(16, int(count * effort.size)))
                for who in ("watched", "unwatched")
            ),
            cell(ratios[f"watched/{name}"]),
        )
        for name, (_, count) in _HARMLESS.items()
    ]
    head = ("task", "ms a task", "where nobody looks", "ours, of that")
    return Table("Tasks that hold no lock", head, rows, "In process, 8 workers."), ratios


def measure(effort: Effort) -> Topic:
    """Measure another view beside tasks that compute, over their rate."""
    found = {name: measure_host(host, effort) for name, host in HOSTS.items()}
    harmless, ratios = _harmless(effort)
    peers = {
        name: [way for way in host.ways if way is not _PROCESSES][1:]
        for name, host in HOSTS.items()
    }
    ratios |= {
        f"beside/{name} beside {beside}, of that under {way}": of_host[beside, _OURS].per(each)
        for name, of_host in found.items()
        for (beside, way), each in of_host.items()
        if way in peers[name] and beside in {_CURVE[0], _MOST, _MIXED}
    }
    return Topic(
        "Beside tasks that compute",
        "So many requests a second add a task that computes for 50 ms in Python, others one that "
        "sleeps for 50 ms, while another view is asked 100 times a second. One server for each "
        "figure, so that it has to find out each time who holds the interpreter's lock. On uvicorn "
        "each request that adds a task makes a connection, as it may stay busy until the task has "
        "run; on the others connections are kept, as behind a proxy.",
        [*(_table(name, HOSTS[name], each) for name, each in found.items()), harmless],
        _plots(found),
        ratios,
    )
