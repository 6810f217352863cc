"""RESULTS.md: the machine, the bars, every topic's tables."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from benchmarks import bars
from benchmarks.measure import Effort, Samples
from benchmarks.results import Table, Topic

_LOAD = os.getloadavg()[0]  # of others: nothing is measured while this is imported
_PACKAGES = (
    *("bgadapters", "celery", "dbos", "django", "django-tasks-local", "fastapi", "flask"),
    *("flask-executor", "granian", "gunicorn", "httptools", "huey", "kombu", "procrastinate"),
    *("psycopg", "redis", "starlette", "uvicorn", "uvloop", "waitress", "werkzeug"),
)

_READING = """\
## How to read it

- Each figure is the median of {rounds} rounds, or of fewer where it has no bar or takes long, \
with the quartiles in brackets: half of the rounds lie between them. The cases take turns within \
a round, and each round begins with another one. Every case ran once before, to warm up.
- Ratios are formed within a round and then summed up. So they say the same on a busy machine, \
where times do not. Compare ratios between machines, never times.
- Tasks are counted: a run in which one is lost, or runs twice, fails.
- Requests come from one asyncio client, `benchmarks/load.py`, on the same machine. The load \
generators that can be installed as packages do not send at a constant rate and count from the \
moment at which a request was due: a server that stalls would hide most of what it has held up.

## How to reproduce it

`make bench` sets up `.venv-bench` with the versions above and writes this page and its plots in \
less than 30 minutes on two cores, which should have nothing else to do. Redis, RabbitMQ and \
PostgreSQL are needed for the rows with Celery and Procrastinate, valgrind for instructions \
instead of times. `python -m benchmarks --resume`, after a run that has failed, measures only \
what is missing. `make bench-quick` does all of it in small and writes nothing. `make bench-check` \
looks only at whether ratios have become worse, and is a part of `make test`.
"""


def markdown(topics: Sequence[Topic], effort: Effort, reasons: Mapping[str, str]) -> str:
    """The whole page."""
    ratios: dict[str, Samples] = {}
    for topic in topics:
        ratios |= topic.ratios
    parts = [
        "<!-- Written by `make bench`. Edit benchmarks/report.py. -->",
        "# Results",
        "## The machine",
        _listed(machine()),
        "## The bars",
        "Ratios, this library over what it is compared with.",
        _rendered(bars.table(ratios, reasons)),
    ]
    for topic in topics:
        parts += [f"## {topic.title}", topic.text]
        parts += [f"![{plot.title}](../docs/benchmarks/{plot.name}.svg)" for plot in topic.plots]
        for table in topic.tables:
            parts += [f"### {table.title}", _rendered(table), *filter(None, [table.note])]
    parts.append(_READING.format(rounds=effort.rounds).strip())
    parts += ["## How long it took", _rendered(_lengths(topics))]
    return "\n\n".join(parts) + "\n"


def text(topics: Sequence[Topic], reasons: Mapping[str, str]) -> str:
    """The tables, for a terminal."""
    parts = []
    ratios: dict[str, Samples] = {}
    for topic in topics:
        ratios |= topic.ratios
        parts += [f"{topic.title}: {table.title}\n{_aligned(table)}" for table in topic.tables]
    lengths = _lengths(topics)
    parts.append(f"{lengths.title}\n{_aligned(lengths)}")
    parts.append(f"Bars\n{_aligned(bars.table(ratios, reasons))}")
    return "\n\n".join(parts)


def _lengths(topics: Sequence[Topic]) -> Table:
    """How long each topic took, and all of them."""
    rows = [(topic.title, f"{topic.seconds:.0f}") for topic in topics]
    rows.append(("all", f"{sum(topic.seconds for topic in topics):.0f}"))
    return Table("How long it took", ("topic", "seconds"), rows)


def machine() -> dict[str, str]:
    """What was measured on, and with which versions."""
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}, {platform.libc_ver()[1]} libc",
        "Python": f"{platform.python_version()}, {platform.python_compiler()}",
        "load before the run": f"{_LOAD:.1f} processes",
        "versions": ", ".join(f"{n} {installed[n]}" for n in _PACKAGES if n in installed),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())


def _rendered(table: Table) -> str:
    lines = [table.head, ["---"] * len(table.head), *table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _aligned(table: Table) -> str:
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
