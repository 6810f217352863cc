"""``python -m benchmarks``: measure everything and write RESULTS.md.

``--quick`` measures little and writes nothing, ``--check`` looks at the ratios alone; topics named
after them are the only ones measured, and nothing is written then either.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    beside,
    check,
    durable,
    engines,
    in_process,
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
    parser.add_argument("topics", nargs="*", help=f"some of {', '.join(TOPICS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.topics) - set(TOPICS):
        parser.error(f"unknown topic {', '.join(unknown)}; there are {', '.join(TOPICS)}")
    if given.check:
        return check.run()
    return _measure(QUICK if given.quick else FULL, given.topics)


def _measure(effort: Effort, chosen: list[str]) -> int:
    """Measure and report; a topic that fails leaves the others to be seen, and nothing written."""
    topics = []
    failed = []
    for name in chosen or TOPICS:
        started = time.monotonic()
        gc.collect()
        try:
            topics.append(TOPICS[name](effort))
        except Exception:
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(report.text(topics, REASONS))
    if failed:
        print(f"Failed, so nothing was written: {', '.join(failed)}")
        return 1
    if effort is FULL and not chosen:
        plots.write((plot for topic in topics for plot in topic.plots), PLOTS)
        RESULTS.write_text(report.markdown(topics, effort, REASONS))
        print(f"Written: {RESULTS.relative_to(ROOT)}, {PLOTS.relative_to(ROOT)}/*.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
