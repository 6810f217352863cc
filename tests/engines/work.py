"""What tasks do in the process of a worker, and the file in which it is written down.

Each line is one write, of JSON; it outlives the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from bgadapters import NoRetry, Retry, TaskEvent, TaskInfo, TaskMiddleware, current_task
from bgadapters.adapters import Engine, Runtime, parse_settings

LOG = "TEST_ENGINE_LOG"

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


class Line(NamedTuple):
    """One thing that has happened in a worker.

    Attributes:
        kind: the kind of an event of the application there, or what a function calls it.
        id: that of the task.
        what: what it was about, as text.
        attempt: that of the task.
        tenant: whose task it is, as the task sees it.
        at: when, as `time.time` tells it.
        pid: the process.
    """

    kind: str
    id: str
    what: str
    attempt: int
    tenant: str
    at: float
    pid: int


def lines(file: Path) -> list[Line]:
    """Return what was written so far; a line that is being written is not there yet."""
    if not file.exists():
        return []
    return [Line(*json.loads(each)) for each in file.read_text().split("\n")[:-1]]


def say(kind: str, what: object = "", id: str = "", attempt: int = 0) -> None:  # noqa: A002
    """Write a line; of the task that runs here, unless another one is named."""
    task = current_task()
    if task is not None:
        id, attempt = task.id, task.attempt  # noqa: A001
    line = Line(kind, id, str(what), attempt, tenant.get(), time.time(), os.getpid())
    file = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (json.dumps(line) + "\n").encode())
    os.close(file)


# The application, as it is on both sides.


class OfTenant(TaskMiddleware):
    """A task runs on behalf of whom it was added for."""

    def capture(self, task: TaskInfo) -> Any:
        return tenant.get()

    @contextmanager
    def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
        token = tenant.set(captured)
        try:
            yield
        finally:
            tenant.reset(token)


def tell(event: TaskEvent) -> None:
    """Write down what happens to tasks in a worker."""
    what = type(event.exception).__name__ if event.exception else event.name
    say(event.kind, what, event.task_id, event.attempt)


def settings(**more: Any) -> dict[str, Any]:
    """What the application is set up with, on both sides."""
    given = {"task_modules": [__name__], "task_middleware": [OfTenant()], "name": "tests"}
    return {**given, **more}


def tell_in_the_other(event: TaskEvent) -> None:
    """Do so in an application beside that of most tests."""
    say(f"other {event.kind}", event.name, event.task_id, event.attempt)


def application(engine: Engine) -> list[Runtime]:
    """Set up the applications of a worker. They have to be kept: an engine does not keep them."""
    other = settings(engines={"it": engine}, on_event=tell_in_the_other, name="other")
    its_own = settings(engines={"it": engine}, on_event=tell)
    return [Runtime(parse_settings(each)) for each in (its_own, other)]


# Its functions.


class Colour(enum.Enum):
    RED = 1


@dataclass
class Order:
    number: int
    colour: Colour


def take(
    moment: datetime,
    price: Decimal,
    which: UUID,
    raw: bytes,
    order: Order,
    *,
    colour: Colour,
    pause: timedelta,
    rest: tuple[Any, ...] = (),
) -> None:
    say("took", (moment, price, which, raw, order, colour, pause, rest))


def note(what: object = "") -> None:
    say("ran", what)


async def anote(what: object = "") -> None:
    await asyncio.sleep(0)
    say("ran", what)


def fail(times: int = 1_000_000) -> None:
    """Raise in so many attempts."""
    say("ran")
    task = current_task()
    if task is None or task.attempt <= times:
        raise ValueError("it does not work")


def ask_for_more(seconds: float) -> None:
    """Ask in the first attempt for another one after so many seconds."""
    say("ran")
    task = current_task()
    if task is not None and task.attempt == 1:
        raise Retry("not yet", delay=seconds)


def fail_for_good() -> None:
    say("ran")
    raise NoRetry("never")


async def take_long() -> None:
    say("ran")
    await asyncio.sleep(120)


def leave() -> None:
    say("ran")
    raise SystemExit("it has had enough")


async def cancel() -> None:
    say("ran")
    raise asyncio.CancelledError


def nothing() -> None:
    """Do nothing, where there is no log to write to."""


def nothing_but_an_error() -> None:
    raise ValueError("it does not work")


def wait(gate: str) -> None:
    """Go on when there is such a file."""
    say("ran")
    while not Path(gate).exists():
        time.sleep(0.01)
    say("went on")
