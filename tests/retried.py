"""Print which tests were tried twice, and how each failed first.

Run as ``python -m tests.retried REPORT...``. The reports are those that pytest's ``--junit-xml``
has written of first runs. One that is missing stands for a run that was never begun.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree


def main(*reports: str) -> None:
    lines = [line for report in reports if Path(report).exists() for line in failures(report)]
    print("\n".join(lines) or "Nothing was tried twice")


def failures(report: str) -> Iterator[str]:
    for case in ElementTree.parse(report).iter("testcase"):
        failed = case.find("failure")
        if failed is None:
            failed = case.find("error")
        if failed is not None:
            first_line = failed.get("message", "").partition("\n")[0]
            yield f"Tried twice: {case.get('classname')}.{case.get('name')}: {first_line}"


if __name__ == "__main__":
    main(*sys.argv[1:])
