"""What tasks that compute do to the other requests of their server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.load import Client, Load
from benchmarks.measure import Effort, Samples, percentile
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.server import running
from benchmarks.work import PATIENCE, LostTasksError

_SECONDS = 6.0
_PROBES = 100.0  # requests a second to another view
_RATES = (2, 6, 12, 20, 30)  # tasks a second
_BARS = (12, 30)
_SLEEPERS = 100  # tasks that sleep, over all the time
_OURS = "bgadapters"
_BEFORE = "bgadapters, where nobody looks"
_PROCESSES = "bgadapters, in processes"
_THEIRS = "FastAPI's BackgroundTasks"
_UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log")
_WAYS = {
    _OURS: ("benchmarks.apps.fastapi_app:app", "bgadapters"),
    _BEFORE: ("benchmarks.apps.unwatched_app:app", "bgadapters"),
    _PROCESSES: ("benchmarks.apps.process_app:app", "process"),
    _THEIRS: ("benchmarks.apps.fastapi_app:app", "fastapi"),
}


async def _add(port: int, path: str, rate: float, count: int) -> None:
    """Add tasks at a constant rate, each by a connection of its own: it may stay busy."""
    first = time.perf_counter()

    async def one(number: int) -> None:
        await asyncio.sleep(first + number / rate - time.perf_counter())
        client = Client(port)
        await client.get(path)
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


async def measure_load(port: int, way: str, rate: float, seconds: float, sleepers: int) -> Load:
    """Have tasks compute while another view is asked; return what that found.

    Args:
        port: the server's.
        way: the first part of the path.
        rate: tasks a second.
        seconds: for so long.
        sleepers: tasks that sleep, in the same time.
    """
    client = Client(port)
    before = int((await client.get("/finished"))[1])
    computing = max(1, round(rate * seconds))
    async with asyncio.TaskGroup() as group:
        group.create_task(_add(port, f"/{way}/compute", rate, computing))
        if sleepers:
            group.create_task(_add(port, f"/{way}/sleep", sleepers / seconds, sleepers))
        probes = group.create_task(client.open("/none", _PROBES, int(_PROBES * seconds)))
    await _finished(port, before + computing + sleepers)
    return probes.result()


def measure_ways(
    ways: Sequence[str], rate: float, effort: Effort, sleepers: int = 0
) -> dict[str, Samples]:
    """The 99th percentile of another view in each round, in seconds; servers are new each time."""
    import uvloop  # which is not there where the rest of this module is tested

    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(effort.rounds):
        for way in ways:
            app, path = _WAYS[way]
            with ExitStack() as stack:
                port = stack.enter_context(running((*_UVICORN, app)))
                runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
                runner.run(Client(port).open("/none", _PROBES, 20))
                seconds = max(1.0, _SECONDS * effort.size)
                load = runner.run(measure_load(port, path, rate, seconds, sleepers))
            found[way].append(percentile(load.latencies, 99))
    return {way: Samples(tuple(values)) for way, values in found.items()}


def measure(effort: Effort) -> Topic:
    """Measure another view beside tasks that compute, over their rate."""
    effort = Effort(min(effort.rounds, 3), effort.size)  # each takes as long as it is
    ways = list(_WAYS)
    curves = {rate: measure_ways(ways, rate, effort) for rate in _RATES}
    mixed = measure_ways(ways, _RATES[-1], effort, _SLEEPERS)
    rows = [
        (what, way, cell(found[way], 1e3), cell(found[_OURS].per(found[way])))
        for what, found in (
            *((f"{rate}", found) for rate, found in curves.items()),
            (f"{_RATES[-1]}, and {_SLEEPERS} that sleep", mixed),
        )
        for way in ways
    ]
    lines = {way: [(rate, found[way] * 1e3) for rate, found in curves.items()] for way in ways}
    return Topic(
        "Beside tasks that compute",
        f"For {_SECONDS:.0f} s so many requests a second add a task that computes for 50 ms in "
        "Python, while another view is asked 100 times a second. FastAPI on uvicorn; one server "
        "for each figure, so that it has to find out each time who holds the interpreter's lock.",
        [Table("p99 of another view", ("tasks/s", "run by", "p99, ms", "ours, of that"), rows)],
        [
            Plot(
                "beside-p99",
                "p99 of another view beside tasks that compute for 50 ms",
                ("tasks a second", "ms"),
                lines,
                is_logarithmic=False,
            )
        ],
        {
            f"beside/{what}, of that under {way}": found[_OURS].per(found[way])
            for what, found in (
                *((f"beside {rate} tasks a second that compute", curves[rate]) for rate in _BARS),
                (f"beside {_RATES[-1]} of them and {_SLEEPERS} that sleep", mixed),
            )
            for way in (_THEIRS, _BEFORE)
        },
    )
