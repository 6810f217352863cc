"""The tasks of servers that are killed, and the journal in which they write what they do.

Each line is one write, which outlives the process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bgadapters import current_task, task_options

STORE, JOURNAL, DRAIN = "TEST_STORE", "TEST_JOURNAL", "TEST_DRAIN_TIMEOUT"


def settings() -> dict[str, Any]:
    """The settings of an application, from the environment."""
    return {"store": os.environ[STORE], "drain_timeout": float(os.environ.get(DRAIN, "10"))}


class Line(NamedTuple):
    """A line of the journal.

    Attributes:
        kind: ``"start"`` or ``"end"``.
        name: that of the task.
        pid: the process that has run it.
        at: when, by the clock of the machine that never goes back.
    """

    kind: str
    name: str
    pid: int
    at: float


def lines(path: Path) -> list[Line]:
    """What was written so far."""
    found = (line.split(" ") for line in path.read_text().splitlines())
    return [Line(kind, name, int(pid), float(at)) for kind, name, pid, at in found]


def write(kind: str, name: str) -> None:
    """Write a line."""
    file = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{kind} {name} {os.getpid()} {time.monotonic()}\n".encode())
    os.close(file)


@task_options(durable=True)
def work(name: str, seconds: float = 0.01) -> None:
    """Take so long."""
    write("start", name)
    time.sleep(seconds)
    write("end", name)


@task_options(durable=True)
def wait(name: str, gate: str) -> None:
    """Go on once there is such a file."""
    write("start", name)
    while not Path(gate).exists():
        time.sleep(0.01)
    write("end", name)


@task_options(durable=True)
def kill(name: str) -> None:
    """End the process, as if the system did for want of memory."""
    task = current_task()
    assert task is not None
    write("start", f"{name}={task.id}")
    os.kill(os.getpid(), signal.SIGKILL)


def add(add_task: Callable[..., None], query: Mapping[str, str]) -> str:
    """Add what a request asks for; return the answer: this process."""
    name = query["name"]
    kind = query.get("kind", "work")
    if kind == "work":
        for number in range(int(query.get("count", "1"))):
            each = f"{name}.{number}" if "count" in query else name
            add_task(work, each, float(query.get("seconds", "0.01")))
    elif kind == "wait":
        add_task(wait, name, query["gate"])
    else:
        add_task(kill, name)
    return str(os.getpid())
