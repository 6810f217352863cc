"""How cost, memory and waits grow with what waits."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTasks as StarletteTasks

from benchmarks.measure import Effort, Samples, interleave, percentile, seconds
from benchmarks.overhead import responder, starlette
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.work import TALLY, anoop, noop
from bgadapters import BackgroundTasks, QueueFullError, stats
from bgadapters.adapters import Runtime, Settings

_MILLION = 1_000_000
_SLOW_MOST = 10_000  # tasks for what takes tens of microseconds each
_CONCURRENT = (1, 10, 100, 1_000, 10_000)
OURS_SYNC = "bgadapters, sync"
OURS_ASYNC = "bgadapters, async"
STARLETTE_SYNC = "Starlette, sync"
STARLETTE_ASYNC = "Starlette, async"
SUBMIT = "ThreadPoolExecutor.submit"
_OURS = (OURS_SYNC, OURS_ASYNC)
_LONG_ROUNDS = 3  # of what takes seconds


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


def _a_task(
    respond: Callable[[int], object], tasks: int, note: Callable[[float], object] | None = None
) -> float:
    """The seconds a task takes in a queue of ``tasks``, short queues being repeated.

    Args:
        respond: makes the queue.
        tasks: how many.
        note: called with the part of the time that Python's garbage collector took.
    """
    times = max(1, 1_000 // tasks)

    def measure() -> None:
        for _ in range(times):
            TALLY.expect(tasks)
            respond(tasks)
            TALLY.check()

    return _seconds(measure, note) / (times * tasks)


class _Collector:
    """The seconds that Python's garbage collector has taken, in whatever thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._since = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._since


def _seconds(measure: Callable[[], object], note: Callable[[float], object] | None = None) -> float:
    """The seconds that a call takes, and the collector in it with what the call has made.

    When it looks at all objects depends on how many were made before: by others, without this.
    """
    gc.collect()
    collector = _Collector()
    gc.callbacks.append(collector)
    try:
        taken = seconds(measure)
    finally:
        gc.callbacks.remove(collector)
    if note is not None:
        note(collector.seconds / taken)
    return taken


def _awaited(
    runner: asyncio.Runner, respond: Callable[[int], Coroutine[Any, Any, None]], tasks: int
) -> None:
    runner.run(respond(tasks))


def _growth(effort: Effort) -> tuple[list[Table], Plot, dict[str, Samples]]:
    sizes = [10**power for power in range(7) if 10**power <= _MILLION * effort.size]
    runtime = _roomy()
    respond = responder(runtime)
    shares: dict[str, float] = {}
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
                (name := f"{who}/{size}"): partial(
                    _a_task, way, size, partial(shares.__setitem__, name)
                )
                for size in sizes
                for who, (way, most) in ways.items()
                if size <= most
            },
            min(effort.rounds, _LONG_ROUNDS),
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
    grown = {
        who: found[f"{who}/{most}"].per(found[f"{who}/1000"]) for who in (*_OURS, STARLETTE_ASYNC)
    }
    ratios = {
        "growth": max((grown[who] for who in _OURS), key=lambda samples: samples.median),
        "growth/peer": max((grown[who] for who in _OURS), key=lambda samples: samples.median).per(
            grown[STARLETTE_ASYNC]
        ),
    }
    of_1000 = ((who, cell(each), f"{shares[f'{who}/{most}']:.0%}") for who, each in grown.items())
    tables = [
        Table("The cost of a task as its queue grows, us", head, rows),
        Table(
            f"A task of {most:,} that wait, of one of 1,000",
            ("who", "grows to", "of it in Python's garbage collector"),
            list(of_1000),
            "The collector looks at every object that waits several times until all are there. "
            "Each task of this library is two such objects, since it has a context of its own; "
            "each of Starlette's is one, and a dict.",
        ),
    ]
    return tables, plot, ratios


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


def _greet(name: str, times: int = 1) -> None: ...


_CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "without arguments": (noop, (), {}),
    "async": (anoop, (), {}),
    "one argument": (_greet, ("a@b",), {}),
    "two arguments": (_greet, ("a@b", 2), {}),
    "a keyword argument": (_greet, ("a@b",), {"times": 2}),
}


def _filled(queue: Any, call: str, tasks: int) -> Any:
    func, args, kwargs = _CALLS[call]
    for _ in range(tasks):
        queue.add_task(func, *args, **kwargs)
    return queue


def bytes_of(call: str, queue: Callable[[], Any], tasks: int = 10_000) -> float:
    """The memory that a waiting task holds, in a queue that is thrown away."""
    _filled(queue(), call, 1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = _filled(queue(), call, tasks)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    del kept
    return (after - before) / tasks


class _Quiet:
    """Queues of this library that say nothing when they are thrown away."""

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        self._queue = BackgroundTasks(runtime=runtime)
        self._adder: Any = self._queue.options(**options) if options else self._queue

    def add_task(self, *args: Any, **kwargs: Any) -> None:
        self._adder.add_task(*args, **kwargs)

    def __del__(self) -> None:
        self._queue.batch.remove()


def _memory(effort: Effort) -> Table:
    def counted(call: str, queue: Callable[[], Any]) -> Samples:
        return Samples(tuple(bytes_of(call, queue) for _ in range(min(effort.rounds, 3))))

    runtime = _roomy()
    rows = []
    for call in _CALLS:
        ours, theirs = counted(call, partial(_Quiet, runtime)), counted(call, StarletteTasks)
        rows.append((call, cell(ours), cell(theirs), cell(ours.per(theirs))))
    ours = counted("without arguments", partial(_Quiet, runtime, name="greeting"))
    rows.append(("with a name of its own", cell(ours), "", ""))
    held = bytes_per_task(_fill_pool, 1_000)
    note = (
        "Counted by tracemalloc, with the task's context, of 10,000 that wait. A call of "
        f"`{SUBMIT}` holds {held:.0f} bytes, without arguments and without a context."
    )
    return Table(
        "Bytes that a waiting task holds",
        ("a task", "bgadapters", "Starlette", "ratio"),
        rows,
        note,
    )


@dataclass(frozen=True)
class _Held:
    """What a process holds."""

    objects: int
    traced: int
    resident: int

    @classmethod
    def now(cls) -> _Held:
        for _ in range(3):
            gc.collect()
        objects = len(gc.get_objects())
        with suppress(OSError, AttributeError):  # no libc that has it
            ctypes.CDLL(None).malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if _STATM.exists() else 0
        return cls(objects, tracemalloc.get_traced_memory()[0], pages * os.sysconf("SC_PAGE_SIZE"))


_STATM = Path("/proc/self/statm")


def _left(run: Callable[[], object], is_traced: bool) -> tuple[str, ...]:
    """Run it twice, so that what is made once is there; tell what the second time has left."""
    run()
    if is_traced:
        tracemalloc.start()
    try:
        before = _Held.now()
        run()
        after = _Held.now()
    finally:
        tracemalloc.stop()
    return (
        f"{after.objects - before.objects:+d}",
        f"{(after.traced - before.traced) / 1e3:+.1f}" if is_traced else "",
        f"{(after.resident - before.resident) / 1e6:+.1f}",
    )


def _back(effort: Effort) -> Table:
    """What is left of memory when all has run."""
    runtime = _roomy()
    respond = responder(runtime)
    tasks, responses = int(_MILLION * effort.size), int(10_000 * effort.size)

    def released() -> None:
        TALLY.expect(tasks)
        _released(runtime, tasks)

    async def responses_at_once() -> None:
        await asyncio.gather(*(respond(anoop, 1) for _ in range(responses)))

    with asyncio.Runner() as runner:
        cases: dict[str, tuple[Callable[[], object], bool]] = {
            f"{tasks:,} sync tasks of one response": (released, False),
            f"{tasks // 10:,} sync tasks of one response": (
                partial(_expected, partial(_released, runtime), tasks // 10),
                True,
            ),
            f"{tasks:,} async tasks of one response": (
                lambda: runner.run(_expect_and(respond(anoop, tasks), tasks)),
                False,
            ),
            f"{responses:,} responses at once": (
                lambda: runner.run(_expect_and(responses_at_once(), responses)),
                True,
            ),
        }
        rows = [(name, *_left(*case)) for name, case in cases.items()]
    return Table(
        "What is left of memory when all has run",
        ("of", "objects", "allocated by Python, kB", "resident, MB"),
        rows,
        "The second time, so that threads and loops are there, after a full collection and "
        "`malloc_trim`. Resident memory counts pages, which Python gives back when nothing on "
        "them is in use any more.",
    )


def _expected(run: Callable[[int], object], tasks: int) -> None:
    TALLY.expect(tasks)
    run(tasks)
    TALLY.check()


async def _expect_and(work: Coroutine[Any, Any, None], tasks: int) -> None:
    TALLY.expect(tasks)
    await work
    TALLY.check()


def _concurrent(effort: Effort) -> tuple[list[Table], dict[str, Samples]]:
    runtime = _roomy()
    shares: dict[str, float] = {}
    ours = responder(runtime)
    sizes = [size for size in _CONCURRENT if size <= max(1_000, _CONCURRENT[-1] * effort.size)]

    async def at_once(respond: Callable[..., Any], task: Any, responses: int) -> None:
        await asyncio.gather(*(respond(task, 1) for _ in range(responses)))

    def measure(
        run: Callable[[int], object], responses: int, note: Callable[[float], object]
    ) -> float:
        times = max(1, 1_000 // responses)

        def all_of_them() -> None:
            for _ in range(times):
                TALLY.expect(responses)
                run(responses)
                TALLY.wait()

        return _seconds(all_of_them, note) / (times * responses)

    def released(responses: int) -> None:
        for _ in range(responses):
            queue = BackgroundTasks(runtime=runtime)
            queue.add_task(noop)
            queue.release()

    small = Runtime(Settings(max_pending=_HELD_BACK_BY))

    async def held_back() -> None:
        queue = BackgroundTasks(runtime=small)
        queue.add_task(_turn)
        await small.admission.await_capacity(queue.batch)
        await queue.arelease()

    async def all_held_back(responses: int) -> None:
        await asyncio.gather(*(held_back() for _ in range(responses)))

    ways: dict[str, Callable[[int], object]] = {
        "bgadapters, WSGI, sync": released,
        OURS_SYNC: lambda n: runner.run(at_once(ours, noop, n)),
        STARLETTE_SYNC: lambda n: runner.run(at_once(starlette, noop, n)),
        OURS_ASYNC: lambda n: runner.run(at_once(ours, anoop, n)),
        STARLETTE_ASYNC: lambda n: runner.run(at_once(starlette, anoop, n)),
        "bgadapters, async, that wait": lambda n: runner.run(at_once(ours, _turn, n)),
        "Starlette, async, that wait": lambda n: runner.run(at_once(starlette, _turn, n)),
        f"bgadapters, held back by max_pending={_HELD_BACK_BY}": lambda n: runner.run(
            all_held_back(n)
        ),
    }
    with asyncio.Runner() as runner:
        found = interleave(
            {
                (key := f"{name}/{n}"): partial(measure, way, n, partial(shares.__setitem__, key))
                for name, way in ways.items()
                for n in sizes
            },
            min(effort.rounds, _LONG_ROUNDS),
        )
        found_stats = {n: Samples((runner.run(_stats_beside(n)),)) for n in sizes}
    rows = [
        (f"{n:,}", *(cell(found[f"{name}/{n}"], 1e6) for name in ways), cell(found_stats[n], 1e3))
        for n in sizes
    ]
    most = sizes[-1]
    grown = {name: found[f"{name}/{most}"].per(found[f"{name}/100"]) for name in ways}
    worst = max(
        (each for name, each in grown.items() if name.startswith("bgadapters")),
        key=lambda samples: samples.median,
    )
    table = Table(
        "The cost of a response with many at once, one task each, us",
        ("responses at once", *ways, "`stats()`, ms"),
        rows,
        "From 100 at once on what is shared by all of them, such as the turns of the event loop, "
        "costs each next to nothing. `stats()` was called once, beside so many that wait.",
    )
    of_100 = ((name, cell(each), f"{shares[f'{name}/{most}']:.0%}") for name, each in grown.items())
    growth = Table(
        f"A response of {most:,} at once, of one of 100",
        ("who", "grows to", "of it in Python's garbage collector"),
        list(of_100),
        "What so many hold makes the collector look at all objects of the process once or more.",
    )
    return [table, growth], {"concurrent": worst}


_HELD_BACK_BY = 50


async def _turn() -> None:
    await asyncio.sleep(0)
    TALLY.note()


async def _stats_beside(responses: int) -> float:
    """The seconds that `stats` takes while so many responses have a task that waits."""
    runtime, go_on = _roomy(), asyncio.Event()
    for _ in range(responses):
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(go_on.wait)
        queue.release()
    await asyncio.sleep(0)
    taken = seconds(stats)
    go_on.set()
    await runtime.adrain()
    return taken


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
            floods = [_flood(on_full, load, 0.5) for _ in range(min(effort.rounds, 3))]
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
    growth, plot, ratios = _growth(effort)
    concurrent, more_ratios = _concurrent(effort)
    return Topic(
        "Scale",
        "One queue with more and more tasks; more and more responses at once; more tasks than can "
        "be run. `max_pending` is raised where it would be reached, but where it is named, and for "
        "the last table.",
        [*growth, _memory(effort), _back(effort), *concurrent, _overload(effort)],
        [plot],
        {**ratios, **more_ratios, "bytes": Samples((memory_ratio(),))},
    )
