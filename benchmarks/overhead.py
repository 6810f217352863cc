"""What adding and running a task costs beside the task itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvloop
from starlette.background import BackgroundTasks as StarletteTasks

from benchmarks import peers
from benchmarks.measure import Effort, Samples, seconds, steady_rounds
from benchmarks.results import Plot, Table, Topic, cell
from benchmarks.work import TALLY, anoop, noop
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime

PER_RESPONSE = (1, 10, 100)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
KINDS: dict[str, tuple[Callable[[], object], int]] = {"sync": (noop, 2000), "async": (anoop, 4000)}
"""The task of each kind, and how many of them one measurement runs."""
SHORT = 0.02
"""The part of them that takes a millisecond or so."""
_WSGI_TASKS = 500
_TIMES, _WSGI_TIMES = 20, 5  # measurements a round

Respond = Callable[[Callable[[], object], int], Coroutine[Any, Any, None]]


def responder(runtime: Runtime) -> Respond:
    """What adds tasks to a queue of this library and awaits them."""

    async def respond(task: Callable[[], object], tasks: int) -> None:
        queue = BackgroundTasks(runtime=runtime)
        for _ in range(tasks):
            queue.add_task(task)
        await queue.arelease()

    return respond


async def starlette(task: Callable[[], object], tasks: int) -> None:
    """Add tasks to Starlette's ``BackgroundTasks`` and await them."""
    queue = StarletteTasks()
    for _ in range(tasks):
        queue.add_task(task)
    await queue()


def asgi_case(
    runner: asyncio.Runner, respond: Respond, kind: str, tasks: int, size: float = 1.0
) -> float:
    """The seconds a task takes where each response has ``tasks`` of this kind."""
    task, total = KINDS[kind]
    responses = max(1, int(total * size) // tasks)

    async def measure() -> float:
        TALLY.expect(responses * tasks)
        started = time.perf_counter()
        for _ in range(responses):
            await respond(task, tasks)
        taken = time.perf_counter() - started
        TALLY.check()
        return taken

    return runner.run(measure()) / (responses * tasks)


@contextmanager
def asgi_cases(size: float = 1.0) -> Iterator[dict[str, Callable[[], float]]]:
    """The cases under ASGI, named ``loop/kind/tasks/who``; ``size`` is that of a measurement."""
    runners = {name: asyncio.Runner(loop_factory=make) for name, make in LOOPS.items()}
    respond = {"bgadapters": responder(Runtime()), "Starlette": starlette}
    try:
        yield {
            f"{loop}/{kind}/{tasks}/{who}": partial(asgi_case, runner, way, kind, tasks, size)
            for loop, runner in runners.items()
            for kind in KINDS
            for tasks in PER_RESPONSE
            for who, way in respond.items()
        }
    finally:
        for runner in runners.values():
            runner.close()


def wsgi_case(respond: Callable[[int], object], tasks: int) -> float:
    """The seconds a task takes, from the first response to the end of the last task."""
    responses = _WSGI_TASKS // tasks

    def measure() -> None:
        TALLY.expect(responses * tasks)
        for _ in range(responses):
            respond(tasks)
        TALLY.wait()

    return seconds(measure) / (responses * tasks)


def _asgi(effort: Effort) -> tuple[list[Table], dict[str, Samples]]:
    with asgi_cases(SHORT) as cases:
        found = steady_rounds(cases, effort.rounds, max(4, int(_TIMES * effort.size)))
    rows = []
    ratios: dict[str, Samples] = {}
    for loop in LOOPS:
        for kind in KINDS:
            for tasks in PER_RESPONSE:
                name = f"{loop}/{kind}/{tasks}"
                ours, theirs = found[f"{name}/bgadapters"], found[f"{name}/Starlette"]
                ratio = ratios[name] = ours.per(theirs)
                rows.append(
                    (loop, kind, str(tasks), cell(ours, 1e6), cell(theirs, 1e6), cell(ratio))
                )
    head = ("loop", "tasks are", "a response", "bgadapters, us", "Starlette, us", "ratio")
    return [Table("Under ASGI, a task", head, rows)], ratios


def _wsgi(effort: Effort) -> tuple[list[Table], dict[str, Samples], Plot]:
    with peers.wsgi() as ways:
        found = steady_rounds(
            {
                f"{who}/{tasks}": partial(wsgi_case, respond, tasks)
                for tasks in PER_RESPONSE
                for who, respond in ways.items()
            },
            effort.rounds,
            max(2, int(_WSGI_TIMES * effort.size)),
        )
    rows = []
    ratios: dict[str, Samples] = {}
    for tasks in PER_RESPONSE:
        bare = found[f"{peers.SUBMIT}/{tasks}"]
        for who in ways:
            each = found[f"{who}/{tasks}"]
            rows.append((str(tasks), who, cell(each, 1e6), cell(each.per(bare))))
        for name, who in peers.OURS.items():
            ratios[f"wsgi/{tasks}/{name}"] = found[f"{who}/{tasks}"].per(bare)
    head = ("a response", "who", "us a task", "per bare submit")
    plot = Plot(
        "overhead-wsgi",
        "Under WSGI: the cost of a no-op task",
        ("tasks a response", "us a task"),
        {who: [(float(n), found[f"{who}/{n}"] * 1e6) for n in PER_RESPONSE] for who in ways},
    )
    return [Table("Under WSGI, a task", head, rows, "\n".join(peers.missing()))], ratios, plot


def measure(effort: Effort) -> Topic:
    """Measure the overhead under both gateways."""
    asgi_tables, asgi_ratios = _asgi(effort)
    wsgi_tables, wsgi_ratios, plot = _wsgi(effort)
    return Topic(
        "Overhead per task",
        "Making a queue, adding tasks that do nothing but count, and running them all. Under ASGI "
        "the response waits for them, as servers do. Under WSGI responses follow one another as "
        "fast as they are made, and the time runs until the last task has run. A round measures "
        "some milliseconds of each kind, several times in turn, and takes the lower quartile. "
        "Isolation, contexts, backlog and events are on, as they are by default.",
        [*asgi_tables, *wsgi_tables],
        [plot],
        {**asgi_ratios, **wsgi_ratios},
    )


__all__ = ["LOOPS", "asgi_cases", "measure", "responder", "starlette", "wsgi_case"]
