"""What a request costs without a server: with one task, and in an application that adds none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import uvloop

from benchmarks.apps import fastapi_app
from benchmarks.apps.in_process import asgi_request, fastapi_apps, requesters
from benchmarks.measure import Effort, Samples, seconds, steady_rounds
from benchmarks.results import Table, Topic, cell

FRAMEWORKS = ("fastapi", "flask", "django")
OURS, THEIRS = "bgadapters", "FastAPI's BackgroundTasks"
WITH, WITHOUT = "with", "without"
_REQUESTS = 300  # a round
_VIEWS = {
    "no task": "/none",
    THEIRS: "/fastapi/anothing",
    f"{THEIRS}, and an empty dependency": "/depends/anothing",
    OURS: "/bgadapters/anothing",
}

Case = Callable[[], float]


async def _asgi_seconds(request: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await request()
    return time.perf_counter() - started


@contextmanager
def _on_a_loop(requests: Mapping[str, Callable[[], Awaitable[None]]]) -> Iterator[dict[str, Case]]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield {name: partial(_run, runner, request) for name, request in requests.items()}


def _run(runner: asyncio.Runner, request: Callable[[], Awaitable[None]]) -> float:
    return runner.run(_asgi_seconds(request))


@contextmanager
def fastapi_cases() -> Iterator[dict[str, Case]]:
    """The seconds of one FastAPI request with one async task, by what runs it."""
    requests = {who: asgi_request(fastapi_app.app, path) for who, path in _VIEWS.items()}
    with _on_a_loop(requests) as cases:
        yield cases


@contextmanager
def unused_cases(framework: str) -> Iterator[dict[str, Case]]:
    """The seconds of a request that adds no task, ``"with"`` and ``"without"`` the shim."""
    if framework == "fastapi":
        requests = {name: asgi_request(app) for name, app in fastapi_apps().items()}
        with _on_a_loop(requests) as cases:
            yield cases
    else:
        with requesters(framework) as ways:
            yield {name: partial(seconds, way) for name, way in ways.items()}


def _fastapi(effort: Effort) -> tuple[Table, Samples]:
    with fastapi_cases() as cases:
        found = steady_rounds(cases, effort.rounds, max(10, int(_REQUESTS * effort.size)))
    theirs = found[THEIRS]
    rows = [(who, cell(each, 1e6), cell(each.per(theirs))) for who, each in found.items()]
    table = Table(
        "A FastAPI request with one async no-op task",
        ("tasks run by", "us a request", "of FastAPI's"),
        rows,
        "FastAPI recognises its own class by the annotation and makes no dependency of it; nobody "
        "else's is recognised.",
    )
    return table, found[OURS].per(theirs)


def _unused(effort: Effort) -> tuple[Table, dict[str, Samples]]:
    rows = []
    ratios: dict[str, Samples] = {}
    for framework in FRAMEWORKS:
        with unused_cases(framework) as cases:
            found = steady_rounds(cases, effort.rounds, max(10, int(_REQUESTS * effort.size)))
        ratio = ratios[f"unused/{framework}"] = found[WITH].per(found[WITHOUT])
        rows.append((framework, cell(found[WITHOUT], 1e6), cell(found[WITH], 1e6), cell(ratio)))
    head = ("framework", "a request, us", "with the shim, us", "ratio")
    note = (
        "With `init_app`; in Django with the decorator on the view. Instructions, which do not "
        "vary, are below, in Start-up and idle cost."
    )
    return Table("A request that adds no task, in time", head, rows, note), ratios


def measure(effort: Effort) -> Topic:
    """Measure requests without a server."""
    table, ratio = _fastapi(effort)
    unused, ratios = _unused(effort)
    return Topic(
        "A request, in process",
        "An application is called as a server calls it, under ASGI on uvloop. A round is "
        f"{_REQUESTS} requests of each kind, which take turns; its figure is their lower quartile: "
        "what interferes with one only ever adds.",
        [table, unused],
        [],
        {"request/fastapi": ratio, **ratios},
    )
