"""The page docs/hosts.md: made of the host table, the limits and what the tests have shown."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import NamedTuple

import pytest

from tests.hosts.limits import LIMITS, Limit, limits_of
from tests.hosts.notes import NOTES
from tests.hosts.servers import HOSTS, Host

PROMISES = {
    2: "After",
    3: "Next",
    4: "Order",
    5: "Isolation",
    6: "Discard",
    7: "Exactly once",
    8: "Client gone",
    9: "Shutdown",
    10: "Context",
    11: "Commit",
    12: "Overload",
    13: "Fork and threads",
}
KEPT, PARTLY, NOT_KEPT, NOT_TESTED, NOT_MEANT = "yes", "in part", "no", "not tested", "-"
Words = dict[tuple[str, int], str]
"""What the table says, by the name of a host and the number of a promise."""


class Told(NamedTuple):
    """What a test says about itself."""

    host: str
    promises: tuple[int, ...]
    limit: int | None

    def to_json(self) -> str:
        return json.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> Told:
        host, promises, limit = json.loads(text)
        return cls(host, tuple(promises), limit)


class Outcomes:
    """What became of the tests, by host and promise."""

    def __init__(self) -> None:
        self._of: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        self._limits: set[int] = set()  # those that were met
        self._skipped_hosts: set[str] = set()

    def add(self, told: Told, report: pytest.TestReport) -> None:
        """Note the report of a test's set-up or call."""
        if report.when == "teardown":
            return
        word = self._word(told, report)
        if word is None:
            return
        for promise in told.promises:
            if word not in {NOT_KEPT, PARTLY} or (
                told.limit is not None and LIMITS[told.limit].promise == promise
            ):
                self._of[told.host, promise].add(word)

    def _word(self, told: Told, report: pytest.TestReport) -> str | None:
        limit = None if told.limit is None else LIMITS[told.limit]
        if report.when == "call" and limit is not None and not limit.always:
            self._limits.add(LIMITS.index(limit))
            return PARTLY  # whichever way it went this time
        if report.passed:
            return KEPT if report.when == "call" else None
        if told.limit is not None and report.skipped:
            self._limits.add(told.limit)
            return NOT_KEPT
        if report.when == "call":
            return NOT_MEANT  # the test itself has found that it has no meaning here
        self._skipped_hosts.add(told.host)
        return None

    def unmet(self) -> list[Limit]:
        """The limits that no test has met, unless their hosts could not be tried."""
        return [
            limit
            for index, limit in enumerate(LIMITS)
            if index not in self._limits
            and any(
                limit.concerns(host, limit.promise) and host not in self._skipped_hosts
                for host in HOSTS
            )
        ]

    def words(self) -> Words:
        """What the table says."""
        return {
            (host, promise): self._summary(self._of[host, promise])
            for host in HOSTS
            for promise in PROMISES
        }

    @staticmethod
    def _summary(outcomes: set[str]) -> str:
        if not outcomes:
            return NOT_TESTED
        if PARTLY in outcomes or {KEPT, NOT_KEPT} <= outcomes:
            return PARTLY
        if NOT_KEPT in outcomes:
            return NOT_KEPT
        return KEPT if KEPT in outcomes else NOT_MEANT


INTRODUCTION = """\
<!-- Written by `make hosts`. Edit servers.py, limits.py, notes.py, table.py in tests/hosts. -->

# Hosts

A *host* is a framework on a server. The [promises](promises.md) that have a column here are tested
on every host, with the real server and real connections: `make hosts` runs these tests and writes
this page. The other promises do not depend on the server.

"yes" means that all tests of the promise pass on that host. "in part" and "no" come with the number
of a [limit](#limits) of the server, which says why and what to use instead. A dash stands where the
promise means nothing.
"""


def page(words: Words) -> str:
    """The whole page."""
    parts = [
        INTRODUCTION,
        _table("WSGI", [h for h in HOSTS.values() if not h.is_asgi], words),
        _table("ASGI", [h for h in HOSTS.values() if h.is_asgi], words),
        _footnotes(),
        _notes(),
    ]
    return "\n".join(part for part in parts if part)


def _table(heading: str, hosts: list[Host], words: Words) -> str:
    lines = [
        f"## {heading}",
        "",
        "| Host | " + " | ".join(f"{number}. {name}" for number, name in PROMISES.items()) + " |",
        "|---|" + "---|" * len(PROMISES),
    ]
    for host in hosts:
        cells = [_cell(host.name, promise, words[host.name, promise]) for promise in PROMISES]
        lines.append(f"| {host.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(host: str, promise: int, word: str) -> str:
    if word not in {PARTLY, NOT_KEPT}:
        return word
    numbers = sorted(_NUMBERS[_text(limit)] for limit in limits_of(host, promise))
    return f"{word} ({', '.join(map(str, dict.fromkeys(numbers)))})"


def _text(limit: Limit) -> str:
    return f"{limit.why} Instead: {limit.instead}"


_NUMBERS = {text: number for number, text in enumerate(dict.fromkeys(map(_text, LIMITS)), start=1)}


def _footnotes() -> str:
    limits = [f"{number}. {text}" for text, number in _NUMBERS.items()]
    return "\n".join(["## Limits", "", *(limits or ["None."])]) + "\n"


def _notes() -> str:
    notes = [f"### {server}\n\n{text.strip()}\n" for server, text in NOTES.items()]
    return "\n".join(["## What to set on a server\n", *notes])


_ROW = re.compile(r"^\| (?P<title>[^|]+ on [^|]+) \| (?P<cells>.*) \|$", re.MULTILINE)


def words_of(text: str) -> Words:
    """What a page says, for comparison with what it should say."""
    names = {host.title: name for name, host in HOSTS.items()}
    words: Words = {}
    for row in _ROW.finditer(text):
        cells = [re.sub(r" \([\d, ]+\)$", "", cell) for cell in row["cells"].split(" | ")]
        for promise, word in zip(PROMISES, cells, strict=True):
            words[names[row["title"]], promise] = word
    return words
