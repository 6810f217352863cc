"""The tasks of tests with many requests, and what their servers tell about themselves.

A task writes one line with one write, which is faster than the event log; where many
processes append to one file, no line is lost or torn.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextvars import Context
from pathlib import Path
from typing import Any

from bgadapters.adapters import BackgroundTasks, Runtime, Task
from bgadapters.core.process import shutdown
from tests.hosts.events import areport, report

_FILE = "BGADAPTERS_TEST_JOURNAL"
RUN = "BGADAPTERS_TEST_RUN"  # of a process that adds tasks without having been asked
LOADED = "The application for load was loaded by process"


def say_loaded() -> None:
    """Tell a test that another process serves: at the end of each application's module."""
    os.write(2, f"{LOADED} {os.getpid()}\n".encode())


class Journal:
    """The names of the tasks that have finished, read by a test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self.environ = {_FILE: str(path)}

    def finished(self) -> Counter[str]:
        """How often each task has finished."""
        return Counter(self._path.read_text().splitlines())


def _finish(name: str) -> None:
    file = os.open(os.environ[_FILE], os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{name}\n".encode())
    os.close(file)


def task(name: str, seconds: float = 0.0, run: str = "") -> None:
    """Work for so long, or as long as the event log holds this run."""
    taken()
    if run:
        report(run, f"start {name}")
    if seconds:
        time.sleep(seconds)  # the work
    _finish(name)


async def async_task(name: str, seconds: float = 0.0, run: str = "") -> None:
    """The same without blocking the event loop."""
    if run:
        await areport(run, f"start {name}")
    if seconds:
        await asyncio.sleep(seconds)  # the work
    _finish(name)


def add(queue: Any, query: Mapping[str, str]) -> str:
    """Add the task of a request; returns its name, which is the body of the response."""
    name, run = query["name"], query.get("run", "")
    func = async_task if query.get("kind") == "async" else task
    queue.add_task(func, name, float(query.get("seconds", "0")), run)
    taken()
    return name


def runtimes() -> list[Runtime]:
    return [each for each in shutdown.applications() if isinstance(each, Runtime)]


def state() -> dict[str, Any]:
    """What this process holds."""
    gc.collect()
    objects = gc.get_objects()
    in_flight = [runtime.in_flight for runtime in runtimes()]
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "objects": len(objects),
        "contexts": sum(type(each) is Context for each in objects),
        "tasks": sum(type(each) is Task for each in objects),
        "queues": sum(isinstance(each, BackgroundTasks) for each in objects),
        "asyncio tasks": sum(isinstance(each, asyncio.Task) for each in objects),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "files": len(os.listdir("/proc/self/fd")),
        "taken": sum(each.in_use for each in in_flight),
        "unfinished": sum(len(each.live()) for each in in_flight),
    }


_peak = 0  # written without a lock: each writer has seen what it writes


def taken() -> int:
    """The tasks that wait or run in this process; noted if there never were so many."""
    global _peak
    now = sum(runtime.in_flight.in_use for runtime in runtimes())
    _peak = max(_peak, now)
    return now


def peak() -> int:
    """The most tasks that ever waited or ran when a view or a task looked."""
    taken()
    return _peak
