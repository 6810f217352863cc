"""How cost, memory and waits grow with what waits."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.background import BackgroundTasks as StarletteTasks

from benchmarks.measure import Effort, Samples, interleave, percentile, seconds
from benchmarks.overhead import responder, starlette
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.work import TALLY, anoop, noop
from bgadapters import BackgroundTasks, QueueFullError
from bgadapters.adapters import Runtime, Settings

_MILLION = 1_000_000
_SLOW_MOST = 10_000  # tasks for what takes tens of microseconds each
_CONCURRENT = (1, 10, 100, 1_000)
_PER_RESPONSE = 10
OURS_SYNC = "bgadapters, sync"
OURS_ASYNC = "bgadapters, async"
STARLETTE_SYNC = "Starlette, sync"
STARLETTE_ASYNC = "Starlette, async"
SUBMIT = "ThreadPoolExecutor.submit"


def _roomy() -> Runtime:
    return Runtime(Settings(max_pending=2 * _MILLION))


def _released(runtime: Runtime, tasks: int) -> None:
    queue = BackgroundTasks(runtime=runtime)
    for _ in range(tasks):
        queue.add_task(noop)
    queue.release()
    TALLY.wait()


def _submitted(pool: ThreadPoolExecutor, tasks: int) -> None:
    for _ in range(tasks):
        pool.submit(noop)
    TALLY.wait()


def _a_task(respond: Callable[[int], object], tasks: int) -> float:
    """The seconds a task takes in a queue of ``tasks``, short queues being repeated."""
    times = max(1, 1_000 // tasks)

    def measure() -> None:
        for _ in range(times):
            TALLY.expect(tasks)
            respond(tasks)
            TALLY.check()

    return seconds(measure) / (times * tasks)


def _awaited(
    runner: asyncio.Runner, respond: Callable[[int], Coroutine[Any, Any, None]], tasks: int
) -> None:
    runner.run(respond(tasks))


def _growth(effort: Effort) -> tuple[Table, Plot, Samples]:
    sizes = [10**power for power in range(7) if 10**power <= _MILLION * effort.size]
    runtime = _roomy()
    respond = responder(runtime)
    with asyncio.Runner() as runner, ThreadPoolExecutor(8) as pool:
        ways: dict[str, tuple[Callable[[int], object], int]] = {
            OURS_SYNC: (partial(_released, runtime), _MILLION),
            OURS_ASYNC: (partial(_awaited, runner, partial(respond, anoop)), _MILLION),
            STARLETTE_ASYNC: (partial(_awaited, runner, partial(starlette, anoop)), _MILLION),
            STARLETTE_SYNC: (partial(_awaited, runner, partial(starlette, noop)), _SLOW_MOST),
            SUBMIT: (partial(_submitted, pool), _SLOW_MOST * 10),
        }
        found = interleave(
            {
                f"{who}/{size}": partial(_a_task, way, size)
                for size in sizes
                for who, (way, most) in ways.items()
                if size <= most
            },
            effort.rounds,
        )
    head = ("tasks that wait", *ways)
    rows = []
    for size in sizes:
        cells = (found.get(f"{who}/{size}") for who in ways)
        rows.append((f"{size:,}", *(cell(each, 1e6) if each else "" for each in cells)))
    lines: dict[str, list[tuple[float | str, Samples]]] = {
        who: [(float(n), found[f"{who}/{n}"] * 1e6) for n in sizes if f"{who}/{n}" in found]
        for who in ways
    }
    plot = Plot(
        "scale-growth",
        "The cost of a task as its queue grows",
        ("tasks that wait", "us a task"),
        lines,
    )
    most = sizes[-1]
    flat = max(
        (found[f"{who}/{most}"].per(found[f"{who}/1000"]) for who in (OURS_SYNC, OURS_ASYNC)),
        key=lambda samples: samples.median,
    )
    return Table("The cost of a task as its queue grows, us", head, rows), plot, flat


def bytes_per_task(fill: Callable[[int], object], tasks: int) -> float:
    """The memory that a waiting task holds, by what Python allocates for ``tasks`` of them."""
    _let_run(fill(1), 1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = fill(tasks)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    _let_run(kept, tasks)
    return (after - before) / tasks


def _let_run(kept: object, tasks: int) -> None:
    """Let the tasks of a queue of this library run: it would warn that it was never released."""
    if isinstance(kept, BackgroundTasks):
        TALLY.expect(tasks)
        kept.release()
        TALLY.wait()


def fill_ours(runtime: Runtime, tasks: int) -> BackgroundTasks:
    """A queue of this library that waits."""
    queue = BackgroundTasks(runtime=runtime)
    for _ in range(tasks):
        queue.add_task(noop)
    return queue


def fill_starlette(tasks: int) -> StarletteTasks:
    """A queue of Starlette that waits."""
    queue = StarletteTasks()
    for _ in range(tasks):
        queue.add_task(noop)
    return queue


def _fill_pool(tasks: int) -> object:
    """An executor whose only worker is busy until all are there."""
    pool = ThreadPoolExecutor(1)
    go = threading.Event()
    pool.submit(go.wait)
    kept = [pool.submit(noop) for _ in range(tasks)]
    pool.shutdown(wait=False, cancel_futures=True)
    go.set()
    return kept


def _memory(effort: Effort) -> Table:
    sizes = [size for size in (1_000, 100_000, _MILLION) if size <= _MILLION * effort.size]
    runtime = _roomy()
    ways: dict[str, Callable[[int], object]] = {
        "bgadapters": partial(fill_ours, runtime),
        "Starlette": fill_starlette,
        SUBMIT: _fill_pool,
    }
    rows = []
    for size in sizes:
        held = [f"{bytes_per_task(fill, size):.0f}" for fill in ways.values()]
        rows.append((f"{size:,}", *held))
    note = "Counted by tracemalloc, once, as it does not vary; with the task's context."
    return Table("Bytes that a waiting task holds", ("tasks that wait", *ways), rows, note)


def _concurrent(effort: Effort) -> Table:
    runtime = _roomy()
    ours = responder(runtime)

    async def at_once(respond: Callable[..., Any], task: Any, responses: int) -> None:
        await asyncio.gather(*(respond(task, _PER_RESPONSE) for _ in range(responses)))

    def measure(run: Callable[[int], object], responses: int) -> float:
        times = max(1, 100 // responses)

        def all_of_them() -> None:
            for _ in range(times):
                TALLY.expect(responses * _PER_RESPONSE)
                run(responses)
                TALLY.wait()

        return seconds(all_of_them) / (times * responses * _PER_RESPONSE)

    def released(responses: int) -> None:
        for _ in range(responses):
            queue = BackgroundTasks(runtime=runtime)
            for _ in range(_PER_RESPONSE):
                queue.add_task(noop)
            queue.release()

    ways: dict[str, Callable[[int], object]] = {
        "bgadapters, WSGI, sync": released,
        OURS_SYNC: lambda n: runner.run(at_once(ours, noop, n)),
        STARLETTE_SYNC: lambda n: runner.run(at_once(starlette, noop, n)),
        OURS_ASYNC: lambda n: runner.run(at_once(ours, anoop, n)),
        STARLETTE_ASYNC: lambda n: runner.run(at_once(starlette, anoop, n)),
    }
    with asyncio.Runner() as runner:
        found = interleave(
            {
                f"{name}/{n}": partial(measure, way, n)
                for name, way in ways.items()
                for n in _CONCURRENT
            },
            effort.rounds,
        )
    rows = [(f"{n:,}", *(cell(found[f"{name}/{n}"], 1e6) for name in ways)) for n in _CONCURRENT]
    return Table(
        f"The cost of a task with many responses at once, {_PER_RESPONSE} tasks each, us",
        ("responses at once", *ways),
        rows,
    )


_WORKERS, _PLACES, _TASK_SECONDS, _THREADS = 4, 50, 0.004, 8
_CAPACITY = _WORKERS / _TASK_SECONDS


@dataclass
class _Flood:
    """What became of tasks that came faster than they could run."""

    waits: list[float] = field(default_factory=list)  # from the release to the start
    holds: list[float] = field(
        default_factory=list
    )  # of the releasing thread, from when it was due
    offered: int = 0
    refused: int = 0


def _flood(on_full: Any, load: float, length: float) -> _Flood:
    """Offer ``load`` times what the workers can do, from threads such as servers have."""
    runtime = Runtime(Settings(max_workers=_WORKERS, max_pending=_PLACES, on_full=on_full))
    flood = _Flood()
    per_thread = max(1, int(load * _CAPACITY * length / _THREADS))

    def task(released: float) -> None:
        flood.waits.append(time.perf_counter() - released)
        time.sleep(_TASK_SECONDS)

    def serve(number: int) -> None:
        first = time.perf_counter() + number * length / per_thread / _THREADS
        for request in range(per_thread):
            due = first + request * length / per_thread
            time.sleep(max(0.0, due - time.perf_counter()))
            queue = BackgroundTasks(runtime=runtime)
            try:
                queue.add_task(task, time.perf_counter())
            except QueueFullError:
                refused.append(request)
            queue.release()
            flood.holds.append(time.perf_counter() - due)

    refused: list[int] = []
    threads = [threading.Thread(target=serve, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.drain()
    flood.offered, flood.refused = per_thread * _THREADS, len(refused)
    if len(flood.waits) + flood.refused != flood.offered:
        raise AssertionError(
            f"{len(flood.waits)} ran and {flood.refused} were refused of {flood.offered}"
        )
    return flood


def _overload(effort: Effort) -> Table:
    rows = []
    for on_full in ("run", "reject"):
        for load in (1.0, 2.0, 10.0):
            floods = [_flood(on_full, load, 0.5) for _ in range(effort.rounds)]
            waits = [_milliseconds([flood.waits for flood in floods], p) for p in (50, 99)]
            holds = [_milliseconds([flood.holds for flood in floods], p) for p in (50, 99)]
            refused = Samples(tuple(100 * flood.refused / flood.offered for flood in floods))
            rows.append((f'"{on_full}"', f"{load:g}x", *waits, *holds, cell(refused)))
    head = (
        *("on_full", "load", "task waits, p50, ms", "p99, ms"),
        *("response held, p50, ms", "p99, ms", "refused, %"),
    )
    note = (
        f"{_WORKERS} workers, {_PLACES} places, tasks of {_TASK_SECONDS * 1e3:g} ms, {_THREADS} "
        "threads that make responses at a constant rate. A response is held from the moment it "
        'was due: with "run" its thread does the work that the workers have no room for.'
    )
    return Table("Overload", head, rows, note)


def _milliseconds(rounds: list[list[float]], percent: float) -> str:
    return cell(Samples(tuple(percentile(each, percent) for each in rounds)), 1e3)


def memory_ratio(tasks: int = 10_000) -> float:
    """The bytes of a waiting task, of Starlette's."""
    return bytes_per_task(partial(fill_ours, _roomy()), tasks) / bytes_per_task(
        fill_starlette, tasks
    )


def measure(effort: Effort) -> Topic:
    """Measure how everything grows."""
    growth, plot, flat = _growth(effort)
    return Topic(
        "Scale",
        "One queue with more and more tasks; more and more responses at once; more tasks than can "
        "be run. `max_pending` is raised where it would be reached, but for the last table.",
        [growth, _memory(effort), _concurrent(effort), _overload(effort)],
        [plot],
        {"growth": flat, "bytes": Samples((memory_ratio(),))},
    )
