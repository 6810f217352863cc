"""A durable task in memory: what tells its row what becomes of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from traceback import format_exception
from typing import Any, Protocol

from bgadapters.core.model.control import Around, ControlledTask, Feature
from bgadapters.core.model.errors import BackgroundTasksError
from bgadapters.core.model.event import TaskEvent, TaskObserver
from bgadapters.core.model.events import brief
from bgadapters.core.model.task import Call, Task, TaskWrapper, Wait
from bgadapters.core.outbox.receipt import Receipt
from bgadapters.core.outbox.store import Change


class TakenOverError(BackgroundTasksError, RuntimeError):
    """Another process runs this durable task, as this one stood still for too long."""


class Keeps(Protocol):
    """What keeps a task, as the task sees it."""

    def change(self, change: Change) -> None:
        """Have its row changed, soon. Does not raise."""
        ...

    def begin(self, task_id: str) -> Receipt:
        """Note that a recovered task begins; it fails with `TakenOverError`."""
        ...


class DurableCall(TaskObserver, TaskWrapper):
    """What a queue calls for a durable task, which hears how that ends if it does not succeed.

    Args:
        func: the function.
        keeps: where its row is.
    """

    def __init__(self, func: Any, keeps: Keeps) -> None:
        self.func = func
        self._keeps = keeps
        self.__module__ = func.__module__
        self.__qualname__ = func.__qualname__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call."""
        return self.func(*args, **kwargs)

    def unwrap(self, task: Task) -> Call:
        """Return the function, with its arguments."""
        return Call(self.func, task.args, task.kwargs or {})

    def on_task_event(self, event: TaskEvent) -> None:
        """The task has not succeeded."""
        change = _change(event)
        if change is not None:
            self._keeps.change(change)


def _change(event: TaskEvent) -> Change | None:
    kind, task_id = event.kind, event.task_id
    if kind == "failed":
        return Change(task_id, "fail", event.attempt, failure=failure_of(event.exception))
    if kind in ("discarded", "replaced"):
        return Change(task_id, "delete")
    if kind == "abandoned" and event.started_at is None:
        return Change(task_id, "free")
    return None  # it runs on, perhaps; or it is to be tried again, of which the feature has told


def failure_of(exception: BaseException | None, reason: str | None = None) -> str:
    """Return what a row says of a failure."""
    said: dict[str, str] = {}
    if exception is not None:
        said["error"] = brief(exception)
        said["traceback"] = "".join(format_exception(exception))[-20_000:]
    if reason is not None:
        said["reason"] = reason
    return json.dumps(said)


class Kept(Feature):
    """The row of a task.

    Args:
        keeps: where it is.
        is_recovered: whether another process had the task, so that it may have ended that.
    """

    __slots__ = ("_is_recovered", "_keeps")

    def __init__(self, keeps: Keeps, is_recovered: bool = False) -> None:
        self._keeps = keeps
        self._is_recovered = is_recovered

    def around(self, task: ControlledTask, is_async: bool) -> Around | None:
        """Before a task that may have ended a process it is noted that it begins."""
        if not self._is_recovered:
            return None
        begin = self._keeps.begin
        return _abegun(begin(task.record.id)) if is_async else _begun(begin(task.record.id))

    def on_next_attempt(self, task: ControlledTask, wait: Wait) -> None:
        """Another attempt is to come."""
        due = time.time() + wait.seconds
        self._keeps.change(Change(task.record.id, "again", task.record.attempt + 1, due))

    def on_success(self, task: ControlledTask) -> None:
        """It need not be kept any more."""
        self._keeps.change(Change(task.record.id, "delete"))


@contextmanager
def _begun(receipt: Receipt) -> Iterator[None]:
    receipt.wait()
    yield


@asynccontextmanager
async def _abegun(receipt: Receipt) -> AsyncIterator[None]:
    await asyncio.shield(receipt.received())
    yield
