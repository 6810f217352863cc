"""What tests cost: seconds of a processor, their own and those of the processes they wait for.

What a test waits counts too, at a part: others run meanwhile, but no more than there are workers.

``--costs FILE`` writes a list of those that the inner loop cannot afford. The list that is kept,
``tests/costs.txt``, gives them the mark ``costly``, which `make check` leaves out. A test that it
does not name is not costly, so one that is new or has a new name runs.
"""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("costs.txt")
_EACH, _TOGETHER = 0.15, 0.3
"""Seconds from which a test is costly: its own, and those of all that differ in arguments alone."""

_WAITING = 0.2
"""What a second counts for in which no processor is used."""

_PROPERTY = "what it costs"
_begun = pytest.StashKey[tuple[float, float]]()


def costly(seconds: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the functions whose tests are costly, with what these took together.

    Args:
        seconds: the tests by their node ids, with what each took.
    """
    found: defaultdict[str, list[float]] = defaultdict(list)
    for node_id, each in seconds:
        found[function_of(node_id)].append(each)
    return {
        name: sum(each)
        for name, each in sorted(found.items())
        if sum(each) >= _TOGETHER or sum(each) / len(each) >= _EACH
    }


def function_of(node_id: str) -> str:
    """A test without its arguments."""
    return node_id.partition("[")[0]


def read(file: Path) -> set[str]:
    """The functions that a list names."""
    return {line.split()[1] for line in file.read_text().splitlines()}


def write(file: Path, found: dict[str, float]) -> None:
    """Write a list."""
    file.write_text("".join(f"{seconds:5.1f} {name}\n" for name, seconds in found.items()))


class Costs:
    """A plugin that measures what each test costs, and writes the list in the end."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seconds: list[tuple[str, float]] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        item.stash[_begun] = (_used(), time.monotonic())
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            return (yield)
        finally:
            item.user_properties.append((_PROPERTY, _since(*item.stash[_begun])))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            seconds = dict(report.user_properties)[_PROPERTY]
            self._seconds.append((report.nodeid, float(str(seconds))))

    def pytest_sessionfinish(self) -> None:
        if self._file is not None:
            write(self._file, costly(self._seconds))


def _since(used: float, begun: float) -> float:
    used = _used() - used
    return used + _WAITING * max(0.0, time.monotonic() - begun - used)


def _used() -> float:
    """Seconds that this process and those it has waited for have used so far."""
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
