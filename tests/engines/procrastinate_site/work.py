"""What its tasks call."""

from __future__ import annotations

import time
from pathlib import Path

from tests.durable.work import write


def work(name: str) -> None:
    """Write down that it was done."""
    write("start", name)
    write("end", name)


def wait(name: str, gate: str) -> None:
    """Go on once there is such a file."""
    write("start", name)
    while not Path(gate).exists():
        time.sleep(0.01)
    write("end", name)
