"""What the conformance applications have in common: the tasks, and what a request asks for.

A request names its run and the tasks to add: ``?run=7&plan=sync:a,async:b,raise:c``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bgadapters import add_task
from tests.hosts.events import areport, report

CHUNKS = [b"first,", b"second,", b"last"]
BODY = b"".join(CHUNKS)
LARGE = b"x" * 3_000_000

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def make_file() -> Path:
    """Write the file that the applications serve."""
    path = Path(tempfile.mkdtemp(prefix="bgadapters-")) / "file.bin"
    path.write_bytes(BODY)
    return path


def settings_from_environment() -> dict[str, Any]:
    """The settings that a test has asked for, by upper-case name."""
    prefix = "BACKGROUND_TASKS_"
    given = {k.removeprefix(prefix): v for k, v in os.environ.items() if k.startswith(prefix)}
    words = {"True": True, "False": False}
    return {k: int(v) if v.isdigit() else words.get(v, v) for k, v in given.items()}


class ViewError(Exception):
    """Raised by views and bodies that fail."""


def sync_task(run: str, name: str) -> None:
    report(run, f"start {name}", variable.get())
    report(run, f"end {name}")


async def async_task(run: str, name: str) -> None:
    await areport(run, f"start {name}", variable.get())
    await areport(run, f"end {name}", id(asyncio.get_running_loop()))


async def endless_task(run: str, name: str) -> None:
    try:
        await areport(run, f"start {name}")
    except asyncio.CancelledError:
        report(run, f"cancelled {name}")
        raise


def raising_task(run: str, name: str) -> None:
    report(run, f"start {name}")
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt}.get(name, RuntimeError)(name)


async def async_raising_task(run: str, name: str) -> None:
    await areport(run, f"start {name}")
    raise {"cancel": asyncio.CancelledError, "exit2": SystemExit}.get(name, RuntimeError)(name)


def adding_task(run: str, name: str) -> None:
    report(run, f"start {name}")
    add_task(sync_task, run, f"{name}-added")
    report(run, f"end {name}")


class Callable_:
    """A callable object, and a method."""

    def __call__(self, run: str, name: str) -> None:
        sync_task(run, name)

    async def method(self, run: str, name: str) -> None:
        await async_task(run, name)


KINDS: dict[str, Callable[..., Any]] = {
    "sync": sync_task,
    "always": sync_task,
    "async": async_task,
    "endless": endless_task,
    "raise": raising_task,
    "araise": async_raising_task,
    "adding": adding_task,
    "partial": functools.partial(sync_task),
    "object": Callable_(),
    "method": Callable_().method,
    "lambda": lambda run, name: async_task(run, name),
}


def add_plan(queue: Any, query: Mapping[str, str]) -> str:
    """Add the tasks that a request asks for; returns its run."""
    run = query["run"]
    variable.set(f"of {run}")
    for step in filter(None, query.get("plan", "").split(",")):
        kind, _, name = step.partition(":")
        adder = queue.options(always=True) if kind == "always" else queue
        adder.add_task(KINDS[kind], run, name=name)
    report(run, "added")
    return run


def wait_in_view(run: str) -> bytes:
    """Stay in the view until the test lets it go; returns a body."""
    report(f"{run}-view", "start view")
    return BODY


async def await_in_view(run: str) -> None:
    """Do as `wait_in_view`, and tell if the view is cancelled meanwhile."""
    try:
        await areport(f"{run}-view", "start view")
    except asyncio.CancelledError:
        report(run, "view cancelled")
        raise


def threads() -> str:
    """The names of the threads of this process."""
    return ",".join(thread.name for thread in threading.enumerate())


def chunks(run: str, raises: bool = False) -> Iterator[bytes]:
    """A sync stream."""
    for chunk in CHUNKS:
        if raises and chunk is CHUNKS[-1]:
            raise ViewError("the stream broke off")
        yield chunk
    report(run, "last chunk")


def large_chunks() -> Iterator[bytes]:
    """A large sync stream."""
    for _ in range(30):
        yield LARGE[:100_000]


async def large_achunks() -> AsyncIterator[bytes]:
    """A large async stream."""
    for chunk in large_chunks():
        await asyncio.sleep(0)
        yield chunk


async def achunks(run: str, raises: bool = False) -> AsyncIterator[bytes]:
    """An async stream."""
    for chunk in chunks(run, raises):
        await asyncio.sleep(0)
        yield chunk
