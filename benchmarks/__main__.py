"""``python -m benchmarks``: measure everything and write RESULTS.md.

``--quick`` measures little and writes nothing, ``--check`` looks at the ratios alone; topics named
after them are the only ones measured, and nothing is written then either. ``--resume`` takes from
the last run what that has measured, measures what is missing and the topics that are named, and
writes.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import (
    beside,
    check,
    durable,
    engines,
    in_process,
    kept,
    limits,
    overhead,
    plots,
    report,
    scale,
    serving,
    startup,
)
from benchmarks.measure import FULL, QUICK, Effort
from benchmarks.reasons import REASONS
from benchmarks.results import Topic
from benchmarks.server import ROOT

TOPICS: dict[str, Callable[[Effort], Topic]] = {
    "overhead": overhead.measure,
    "requests": in_process.measure,
    "durable": durable.measure,
    "engines": engines.measure,
    "serving": serving.measure,
    "beside": beside.measure,
    "scale": scale.measure,
    "startup": startup.measure,
    "limits": limits.measure,
}
RESULTS = Path(__file__).with_name("RESULTS.md")
PLOTS = ROOT / "docs" / "benchmarks"


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="measure little, write nothing")
    parser.add_argument("--check", action="store_true", help="only check the ratios")
    parser.add_argument("--resume", action="store_true", help="measure what the last run has not")
    parser.add_argument("topics", nargs="*", help=f"some of {', '.join(TOPICS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.topics) - set(TOPICS):
        parser.error(f"unknown topic {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    if given.check:
        return check.run()
    if given.quick or (given.topics and not given.resume):
        return _look(QUICK if given.quick else FULL, given.topics or list(TOPICS))
    return _run(given.topics, is_new=not given.resume)


def _look(effort: Effort, chosen: Sequence[str]) -> int:
    """Measure some topics and print what they found."""
    topics = {name: _measured(name, effort) for name in chosen}
    return _report(topics)


def _run(anew: Sequence[str], is_new: bool) -> int:
    """Measure all that is to be written, and write it; nothing is, where a topic has failed.

    Args:
        anew: what is measured though the last run has done so.
        is_new: whether nothing of the last run counts.
    """
    if is_new:
        kept.forget()
    topics: dict[str, Topic | None] = {}
    for name in TOPICS:
        topic = None if name in anew else kept.kept(name)
        topics[name] = topic = topic or _measured(name, FULL)
        if topic is not None:
            kept.keep(name, topic)
    if code := _report(topics):
        print("Nothing was written. `python -m benchmarks --resume` measures what is missing.")
        return code
    found = [topic for topic in topics.values() if topic is not None]
    plots.write((plot for topic in found for plot in topic.plots), PLOTS)
    RESULTS.write_text(report.markdown(found, FULL, REASONS))
    print(f"Written: {RESULTS.relative_to(ROOT)}, {PLOTS.relative_to(ROOT)}/*.svg")
    return 0


def _measured(name: str, effort: Effort) -> Topic | None:
    """What a topic finds; None if it fails, so that the others are seen nevertheless."""
    started = time.monotonic()
    gc.collect()
    topic = None
    try:
        topic = TOPICS[name](effort)
        topic.seconds = time.monotonic() - started
    except Exception:
        traceback.print_exc()
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return topic


def _report(topics: Mapping[str, Topic | None]) -> int:
    """Print what was found; return 1 if a topic has failed."""
    print(report.text([topic for topic in topics.values() if topic is not None], REASONS))
    failed = [name for name, topic in topics.items() if topic is None]
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
