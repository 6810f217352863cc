"""Have ratios become worse? Under a minute, on a machine that may be busy and slow.

What is measured here takes a millisecond or so and is measured many times over: see
`benchmarks.measure.steady`. The means of longer stretches would say, on a busy machine, that few
long responses have become slower than many short ones.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from benchmarks import bars, peers
from benchmarks.bars import Bar
from benchmarks.in_process import OURS, THEIRS, WITH, WITHOUT, fastapi_cases, unused_cases
from benchmarks.measure import steady
from benchmarks.overhead import SHORT, asgi_cases, wsgi_case
from benchmarks.scale import memory_ratio
from benchmarks.startup import import_seconds

_TRIES = 5
_ROUNDS = 100
_REQUESTS = 400  # rounds of one request
_PROCESSES = 9  # rounds of what starts a process


def run() -> int:
    """Print every ratio; return 1 if one is out each time that it is measured, else 0."""
    failed = []
    for bar, measure in _checks():
        if bar.key.split("/")[1:2] == ["async"] and sys.version_info < (3, 12):
            print(f"--   not met on a Python that cannot begin asyncio's tasks at once: {bar.what}")
            continue
        ratio = measure()
        for _ in range(1, _TRIES):
            if bar.has_become_worse(ratio):
                ratio = min(ratio, measure())
        is_out = bar.has_become_worse(ratio)
        print(f"{'OUT ' if is_out else 'ok  '} {ratio:.3g} ({_accepted(bar)}): {bar.what}")
        if is_out:
            failed.append(bar)
    if failed:
        print(f"{len(failed)} ratios are out; `make bench` tells more")
    return 1 if failed else 0


def _accepted(bar: Bar) -> str:
    """What is compared with; none of the bars that are checked is a floor."""
    today = "" if bar.reached is None else f", today {bar.reached:.3g}"
    return f"{bar.accepted}{today}, by {bar.margin:.3g}"


def _checks() -> list[tuple[Bar, Callable[[], float]]]:
    """Every bar that is checked, with what measures its ratio once."""
    return [
        *((bar, partial(_overhead, bar.key)) for bar in bars.OVERHEAD),
        (bars.REQUEST, _request),
        *((bar, partial(_unused, bar.key.partition("/")[2])) for bar in bars.UNUSED),
        *((bar, partial(_wsgi, peers.OURS[bar.key.split("/")[2]])) for bar in bars.WSGI),
        (bars.BYTES, memory_ratio),
        (bars.IMPORT, _import),
    ]


def _overhead(key: str) -> float:
    with asgi_cases(SHORT) as cases:
        return _ratio(cases[f"{key}/bgadapters"], cases[f"{key}/Starlette"])


def _request() -> float:
    with fastapi_cases() as cases:
        return _ratio(cases[OURS], cases[THEIRS], _REQUESTS)


def _unused(framework: str) -> float:
    with unused_cases(framework) as cases:
        return _ratio(cases[WITH], cases[WITHOUT], _REQUESTS)


def _wsgi(who: str) -> float:
    with peers.wsgi() as ways:
        ours, theirs = (partial(wsgi_case, ways[w], 10) for w in (who, peers.SUBMIT))
        return _ratio(ours, theirs)


def _import() -> float:
    return _ratio(
        partial(import_seconds, "", "bgadapters"),
        partial(import_seconds, "", "starlette.background"),
        _PROCESSES,
    )


def _ratio(ours: Callable[[], float], theirs: Callable[[], float], rounds: int = _ROUNDS) -> float:
    found = steady({"ours": ours, "theirs": theirs}, rounds)
    return found["ours"] / found["theirs"]
