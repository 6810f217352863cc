"""Have ratios become worse? Under a minute, on a machine that may be busy and slow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from benchmarks import bars, peers
from benchmarks.bars import Bar
from benchmarks.measure import interleave
from benchmarks.overhead import asgi_cases, wsgi_case
from benchmarks.scale import memory_ratio
from benchmarks.startup import import_seconds

MARGIN = 2.0  # a thread's waking alone takes twice as long on a machine that has other work
_TRIES = 3
_ROUNDS = 5


def run() -> int:
    """Print every ratio; return 1 if one is out, three times in a row, else 0."""
    failed = []
    for bar, measure in _checks():
        if bar.key.split("/")[1:2] == ["async"] and sys.version_info < (3, 12):
            print(f"--   not met on a Python that cannot begin asyncio's tasks at once: {bar.what}")
            continue
        ratios: list[float] = []
        while len(ratios) < _TRIES and not any(bar.is_met(r, MARGIN) for r in ratios):
            ratios.append(measure())
        best = max(ratios) if bar.is_floor else min(ratios)
        is_in = bar.is_met(best, MARGIN)
        print(f"{'ok  ' if is_in else 'OUT '} {best:.3g} ({bar.accepted}, by {MARGIN}): {bar.what}")
        if not is_in:
            failed.append(bar)
    if failed:
        print(f"{len(failed)} ratios are out; `make bench` tells more")
    return 1 if failed else 0


def _checks() -> list[tuple[Bar, Callable[[], float]]]:
    return [
        *((bar, partial(_overhead, bar.key)) for bar in bars.OVERHEAD),
        (bars.WSGI, _wsgi),
        (bars.BYTES, memory_ratio),
        (bars.IMPORT, _import),
    ]


def _overhead(key: str) -> float:
    with asgi_cases() as cases:
        return _ratio(cases[f"{key}/bgadapters"], cases[f"{key}/Starlette"])


def _wsgi() -> float:
    with peers.wsgi() as ways:
        return _ratio(*(partial(wsgi_case, ways[who], 10) for who in (peers.CORE, peers.SUBMIT)))


def _import() -> float:
    return _ratio(
        partial(import_seconds, "", "bgadapters"),
        partial(import_seconds, "", "starlette.background"),
    )


def _ratio(ours: Callable[[], float], theirs: Callable[[], float]) -> float:
    found = interleave({"ours": ours, "theirs": theirs}, _ROUNDS)
    return found["ours"].per(found["theirs"]).median
