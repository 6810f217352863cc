"""Interleaved rounds, medians and their spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Samples:
    """One figure, measured in several rounds.

    Attributes:
        values: one for each round, in the order of the rounds.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What the middle half lies between."""
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = quantiles(self.values, n=4, method="inclusive")
        return low, high

    def per(self, other: Samples) -> Samples:
        """The quotients, round by round: what slows a whole round down cancels out.

        What was measured in more rounds than the other has nothing beside it in those.
        """
        pairs = zip(self.values, other.values, strict=False)
        return Samples(tuple(mine / theirs for mine, theirs in pairs))

    def __mul__(self, factor: float) -> Samples:
        return Samples(tuple(value * factor for value in self.values))


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: repetitions of each case.
        size: the fraction of the full size that loads and queues have.
    """

    rounds: int
    size: float

    @property
    def fewer(self) -> int:
        """Repetitions of what has no bar, and is there to be looked at beside what has."""
        return min(self.rounds, 5)


FULL = Effort(rounds=9, size=1.0)
QUICK = Effort(rounds=2, size=0.1)


def interleave(cases: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, Samples]:
    """Call every case once to warm up and then once a round, each round beginning with another.

    Args:
        cases: what measures once and returns the figure, by name.
        rounds: how often.
    """
    names = list(cases)
    for measure in cases.values():
        measure()
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            values[name].append(cases[name]())
    return {name: Samples(tuple(taken)) for name, taken in values.items()}


def steady(cases: Mapping[str, Callable[[], float]], times: int) -> dict[str, float]:
    """The lower quartile of many short measurements, which take turns.

    What interferes only ever adds. A longer measurement is interrupted on a busy machine, and one
    that computes more so than one that waits: the scheduler lets what has waited go first.

    Args:
        cases: as `interleave` takes them; each had better take a millisecond at most.
        times: how often each is measured.
    """
    return {name: taken.quartiles[0] for name, taken in interleave(cases, times).items()}


def steady_rounds(
    cases: Mapping[str, Callable[[], float]], rounds: int, times: int
) -> dict[str, Samples]:
    """The figures of `steady`, in so many rounds."""
    found = [steady(cases, times) for _ in range(rounds)]
    return {name: Samples(tuple(each[name] for each in found)) for name in cases}


def seconds(work: Callable[[], object]) -> float:
    """The time that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that ``percent`` of all are not above; NaN of none."""
    ordered = sorted(values)
    if not ordered:
        return float("nan")
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
