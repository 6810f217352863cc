"""What nothing written in Python can go below."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context

from benchmarks.measure import Effort, interleave, seconds
from benchmarks.results import Table, Topic, cell

_TIMES = 20_000


def _call() -> None: ...


async def _acall() -> None: ...


def _bare_calls() -> None:
    for _ in range(_TIMES):
        _call()


def _puts_and_gets() -> None:
    jobs: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(_TIMES):
        jobs.put(number)
        jobs.get()


def _copies() -> None:
    for _ in range(_TIMES):
        copy_context()


def _submits() -> None:
    with ThreadPoolExecutor(1) as pool:
        for _ in range(_TIMES // 20):
            pool.submit(_call).result()


_variable: ContextVar[int] = ContextVar("benchmarks.variable")


def _step() -> None:
    """Do what an async task of this library cannot do without: be known as its queue's own."""
    _variable.set(1)
    try:
        _acall().send(None)
    except StopIteration:
        return


def _steps_in_contexts() -> None:
    for _ in range(_TIMES):
        copy_context().run(_step)


async def _awaits() -> None:
    for _ in range(_TIMES):
        await _acall()


async def _tasks() -> None:
    for _ in range(_TIMES // 20):
        await asyncio.create_task(_acall())


async def _hops() -> None:
    loop = asyncio.get_running_loop()
    for _ in range(_TIMES // 20):
        await loop.run_in_executor(None, _call)


def _on_a_loop(work: Callable[[], Awaitable[None]]) -> Callable[[], float]:
    async def timed() -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    return lambda: asyncio.run(timed())


def measure(effort: Effort) -> Topic:
    """Measure the limits."""
    cases = {
        "a bare call": (lambda: seconds(_bare_calls), _TIMES),
        "a bare await": (_on_a_loop(_awaits), _TIMES),
        "an await in a context of its own, a variable set": (
            lambda: seconds(_steps_in_contexts),
            _TIMES,
        ),
        "copy_context()": (lambda: seconds(_copies), _TIMES),
        "SimpleQueue put and get, one thread": (lambda: seconds(_puts_and_gets), _TIMES),
        "an asyncio task, awaited": (_on_a_loop(_tasks), _TIMES // 20),
        "one hop to a thread and back, from a thread": (lambda: seconds(_submits), _TIMES // 20),
        "one hop to a thread and back, from a loop": (_on_a_loop(_hops), _TIMES // 20),
    }
    found = interleave({name: measure for name, (measure, _) in cases.items()}, effort.rounds)
    rows = [(name, cell(found[name], 1e6 / times)) for name, (_, times) in cases.items()]
    return Topic(
        "Physical limits",
        "What the parts cost that any such library is made of, for comparison.",
        [Table("Limits", ("what", "us"), rows)],
    )
