"""The bars: which ratio is to stay on which side of which number."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from benchmarks.measure import Samples
from benchmarks.results import Table, cell


class Bar(NamedTuple):
    """One bar.

    Attributes:
        key: the ratio that it is about, as the topics name it.
        what: what is compared.
        limit: what the median of the ratio is to reach.
        is_floor: whether it is to be at least that; else it is at most that.
        margin: how far off, as a factor, it may be on a machine that has other work.
        reached: what is true today where the limit is missed: that it has not become worse can be
            checked nevertheless.
    """

    key: str
    what: str
    limit: float
    is_floor: bool = False
    margin: float = 2.0
    reached: float | None = None

    def is_met(self, ratio: float, margin: float = 1.0) -> bool:
        """Whether a ratio is on the right side, or not further off than by a factor."""
        if self.is_floor:
            return ratio >= self.limit / margin
        return ratio <= self.limit * margin

    def has_become_worse(self, ratio: float) -> bool:
        """Whether a ratio is further off than what is true today, by more than the margin."""
        today = self if self.reached is None else self._replace(limit=self.reached)
        return not today.is_met(ratio, self.margin)

    @property
    def accepted(self) -> str:
        """The side of the limit that is right."""
        return f"{'at least' if self.is_floor else 'at most'} {self.limit:.3g}"


def _overhead() -> list[Bar]:
    limits = {"sync/1": 0.7, "sync/10": 0.08, "sync/100": 0.02}
    limits |= {"async/10": 2.0, "async/100": 2.0}  # each of ours is an asyncio task of its own
    return [
        Bar(
            f"{loop}/{case}",
            f"Time of one of {case.split('/')[1]} {case.split('/')[0]} tasks a response, {loop}, "
            "of Starlette's",
            limit,
            # With many a response ours compute, and Starlette's wait for threads to wake: what the
            # one costs beside the other differs from machine to machine.
            reached={"sync/10": 0.15, "sync/100": 0.056}.get(case),
        )
        for case, limit in limits.items()
        for loop in ("asyncio", "uvloop")
    ]


OVERHEAD = _overhead()
REQUEST = Bar(
    "request/fastapi",
    "A FastAPI request with one async no-op task, in process, of one with FastAPI's own",
    1.45 if sys.version_info >= (3, 12) else 1.6,
    margin=1.3,  # most of the work is the same
    reached=1.5 if sys.version_info >= (3, 12) else 1.8,
)
UNUSED = [
    Bar(
        f"unused/{name.lower()}",
        f"A {name} request without tasks, in process, with the shim, of one without",
        1.08,
        margin=1.15,
        reached=reached,
    )
    for name, reached in (("FastAPI", 1.16), ("Flask", 1.2), ("Django", 1.18))
]
WSGI = [
    Bar(
        "wsgi/10/core",
        "Time of one of 10 tasks a response, WSGI, of a bare `submit`",
        0.3,
        reached=0.46,
    ),
    Bar("wsgi/10/flask", "the same, Flask", 0.5, reached=1.2),
    Bar("wsgi/10/django", "the same, Django", 1.0),
]
BYTES = Bar("bytes", "Bytes of a waiting task, of Starlette's", 0.8)
IMPORT = Bar("import", "`import bgadapters`, of `starlette.background`", 1 / 3)
GROWTH = [
    Bar("growth", "Time of a task of 1,000,000 that wait, of one of 1,000", 1.2),
    Bar("growth/peer", "the same, of the growth of Starlette's", 1.2),
    Bar("concurrent", "Time of a response of 10,000 at once, of one of 100", 1.2),
]
WATCHED = [
    Bar(f"watched/{name}", f"Time of tasks that {what}, of that where nobody looks", 1.1)
    for name, what in (("sleep", "sleep"), ("zlib", "compute without the lock, as zlib does"))
]

_KEPT = "Keeping one of {} durable tasks a response, {}, of Huey's enqueue"
DURABLE = [
    Bar("durable/NORMAL/run/1", "Time of one durable task a response, of one in memory", 6.0),
    Bar("durable/NORMAL/run/10", "Time of one of 10 durable tasks, of one in memory", 4.0),
    Bar("durable/NORMAL/plain/1", "The same of one, of one without any option", 6.0),
    Bar("durable/NORMAL/plain/10", "The same of 10, of one without any option", 4.0),
    *(
        Bar(f"durable/{level}/kept/{tasks}", _KEPT.format(tasks, level), limit)
        for level in ("NORMAL", "FULL")
        for tasks, limit in ((1, 1.0), (10, 0.2))
    ),
    *(
        Bar(f"durable/dbos/{how}/{tasks}/{what}", said.format(tasks), 1 / 20)
        for how, what, said in (
            ("kept", "start_workflow", "Keeping one of {} durable tasks, of starting a workflow"),
            ("kept", "enqueue", "Keeping one of {} durable tasks, of enqueueing a workflow"),
            ("run", "start_workflow", "Time of one of {} durable tasks, of a workflow of DBOS"),
        )
        for tasks in (1, 10)
    ),
    *(
        Bar(
            f"durable/p99/{host}",
            f"p99 of a view with one durable task, FULL, {host}, of one in memory and an fsync",
            1.3,
        )
        for host in ("uvicorn", "gthread")
    ),
    *(
        Bar(
            f"durable/without/{framework.lower()}",
            f"Time of a request with a plain task, {framework}, with a store, of without",
            1.03,
        )
        for framework in ("FastAPI", "Flask")
    ),
]


def all_bars(ratios: Mapping[str, Samples]) -> list[Bar]:
    """Every bar that a run has ratios for."""
    hosts = dict.fromkeys(key.split("/")[0] for key in ratios if " on " in key)
    serving = [
        bar
        for host in hosts
        for bar in (
            Bar(f"{host}/nothing", f"{host}: requests/s, one no-op task, of FastAPI's", 1.0, True),
            Bar(f"{host}/anothing", f"{host}: the same, async", 0.8, True),
            Bar(f"{host}/p99", f"{host}: p99 with a 50 ms task, of that without", 1.2),
        )
    ]
    beside = [
        Bar(key, f"p99 of another view {key.removeprefix('beside/')}", 0.2)
        for key in ratios
        if key.startswith("beside/")
    ]
    engines = [
        Bar(
            key,
            f"p99 of a view that sends a task after its response, {key.split('/')[1]}, "
            "of the engine's own call in it",
            1.0,
        )
        for key in ratios
        if key.startswith("engines/")
    ]
    return [
        bar
        for bar in (
            *(*OVERHEAD, REQUEST, *UNUSED, *WSGI, *DURABLE, *engines, *serving, *beside),
            *(*WATCHED, BYTES, IMPORT, *GROWTH),
        )
        if bar.key in ratios
    ]


def reason_for(key: str, reasons: Mapping[str, str]) -> str:
    """Why a bar is missed: what is said of its key, else of the longest pattern that fits it."""
    if key in reasons:
        return reasons[key]
    fitting = [pattern for pattern in reasons if fnmatchcase(key, pattern)]
    return reasons[max(fitting, key=len)] if fitting else ""


def table(ratios: Mapping[str, Samples], reasons: Mapping[str, str]) -> Table:
    """Say of each bar whether it was met, and where it was not, by how much and why."""
    rows = []
    for bar in all_bars(ratios):
        measured = ratios[bar.key]
        if bar.is_met(measured.median):
            verdict, reason = "met", ""
        else:
            off = measured.median / bar.limit
            verdict = f"missed by {1 / off if bar.is_floor else off:.2f}x"
            reason = reason_for(bar.key, reasons)
        rows.append((bar.what, bar.accepted, cell(measured), verdict, reason))
    return Table("Bars", ("what", "bar", "measured", "", "why"), rows)
