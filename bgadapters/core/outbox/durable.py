"""A durable task in memory: what tells its row what becomes of it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context
from traceback import format_exception
from typing import Any, Protocol

from bgadapters.core.model import guard
from bgadapters.core.model.control import Around, ControlledTask, Feature
from bgadapters.core.model.errors import StoreUnavailableError
from bgadapters.core.model.event import TaskEvent, TaskObserver
from bgadapters.core.model.events import brief
from bgadapters.core.model.options import Options
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import FullTask, Surrounded, Wait, is_awaitable
from bgadapters.core.outbox.receipt import Receipt
from bgadapters.core.outbox.store import Change, Row


class Keeps(Protocol):
    """What keeps a task, as the task sees it."""

    def change(self, change: Change) -> None:
        """Have its row changed, soon. Does not raise."""
        ...

    def begin(self, task_id: str) -> Receipt:
        """Note that a task begins which others may have; it fails with `NotToRun`."""
        ...


def _change(event: TaskEvent) -> Change | None:
    kind, task_id = event.kind, event.task_id
    if kind == "failed":
        return Change(task_id, "fail", event.attempt, failure=failure_of(event.exception))
    if kind in ("discarded", "replaced", "sent"):
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


class HasRow(Protocol):
    """What has the row of a task.

    Attributes:
        row: the row, where it is still to be written.
        has_row: whether there is one, or is about to be.
        receipt: tells whether that was written; None if it was, or was not asked for.
    """

    row: Sequence[Row]
    has_row: bool
    receipt: Receipt | None


def take_row(holder: HasRow) -> Sequence[Row]:
    """Return what is to be written, which is not kept in memory any longer."""
    row, holder.row = holder.row, ()
    return row


class _Changes(TaskObserver):
    """Changes a row: that it has one it knows, and it hears how its task ends."""

    __slots__ = ()

    has_row: bool
    receipt: Receipt | None
    _keeps: Keeps

    @property
    def is_kept(self) -> bool:
        """Whether it is certain that it has a row."""
        return self.has_row and (self.receipt is None or self.receipt.has_succeeded)

    @property
    def observer(self) -> TaskObserver:
        """Itself: it hears how the task ends if it does not succeed."""
        return self

    def on_task_event(self, event: TaskEvent) -> None:
        """The task has not succeeded."""
        change = _change(event)
        if change is not None:
            self.change(change)

    def change(self, change: Change) -> None:
        """Have the row changed, if there is one."""
        if self.has_row:
            self._keeps.change(change)


class KeptTask(_Changes, FullTask):  # type: ignore[override]  # of most it is a constant
    """A durable task of which nothing more is asked: it has its row by itself.

    What `ControlledTask` and the feature `Kept` do for any other would cost as much again.

    Args:
        keeps: where its row is.
        call: the function, its positional arguments and its keyword arguments.
        context: that in which it is called.
        options: how it is treated.
        is_async: whether it belongs on an event loop.
        record: what is known of it.
    """

    __slots__ = ("_keeps", "has_row", "is_async", "receipt", "row")

    record: Record  # pyright: ignore[reportIncompatibleVariableOverride]  # never None

    def __init__(  # noqa: PLR0917  what it consists of
        self,
        keeps: Keeps,
        call: tuple[Any, tuple[Any, ...], dict[str, Any] | None],
        context: Context,
        options: Options,
        is_async: bool,
        record: Record,
    ) -> None:
        self.func, self.args, self.kwargs = call  # without the constructors of two bases
        self.context = context
        self.options = options
        self.record = record  # pyright: ignore[reportIncompatibleVariableOverride]
        self.is_async = is_async
        self._keeps = keeps
        self.has_row = False
        self.receipt: Receipt | None = None
        self.row: Sequence[Row] = ()

    def call(self) -> Any:
        """Make the call. If it returns well the row need not be kept any more."""
        if self.is_async:
            return self.acall(None)
        result = super().call()
        if result is not None and is_awaitable(result):
            return Surrounded(self.acall, result)
        if self.has_row:
            self._keeps.change(Change(self.record.id, "delete"))
        return result

    async def acall(self, result: Awaitable[Any] | None) -> Any:
        """Await the call, or what it has returned already."""
        if result is None:
            result = super().call()
        while result is not None and is_awaitable(result):
            result = await result
        self.change(Change(self.record.id, "delete"))
        return result


class Kept(_Changes, Feature):  # type: ignore[override, misc]  # pyright: ignore[reportIncompatibleVariableOverride]
    """The row of a task that has further features.

    Args:
        keeps: where it is.
        is_recovered: whether another process had the task, so that it may have ended that.
            Default: it is being added, and has no row.
    """

    __slots__ = ("_has_claimed", "_keeps", "has_row", "is_older", "receipt", "row")

    def __init__(self, keeps: Keeps, is_recovered: bool = False) -> None:
        self._keeps = keeps
        self._has_claimed = False
        self.has_row = self.is_older = is_recovered
        self.receipt: Receipt | None = None
        self.row: Sequence[Row] = ()

    def around(self, task: ControlledTask, is_async: bool) -> Around | None:
        """It is noted that a task begins which may have ended a process, or has a key."""
        if not (self.is_older or task.options.key) or not self.has_row:
            return None
        if is_async is not task.is_async:  # it has returned an awaitable, and has begun
            return None
        receipt = self._keeps.begin(task.record.id)
        return _abegun(receipt) if is_async else _begun(receipt)

    def on_key_entered(self, task: ControlledTask) -> None:
        """Of all processes one task counts that waits with its key. One of before goes back."""
        if not self._has_claimed and self.has_row:
            self._has_claimed = True
            keeps = self.is_older or task.options.on_duplicate == "keep"
            self._keeps.change(Change(task.record.id, "claim", keeps=keeps))

    def on_next_attempt(self, task: ControlledTask, wait: Wait) -> None:
        """Another attempt is to come."""
        due = time.time() + wait.seconds
        self.change(Change(task.record.id, "again", task.record.attempt + 1, due))

    def on_success(self, task: ControlledTask) -> None:
        """It need not be kept any more."""
        self.change(Change(task.record.id, "delete"))

    def give_back(self, task: ControlledTask, seconds: float) -> bool:
        """Leave the next attempt to whoever finds the row, after so many seconds.

        Returns:
            Whether it has a row.
        """
        had_row, due = self.is_kept, time.time() + seconds
        self.change(Change(task.record.id, "again", task.record.attempt + 1, due))
        self.change(Change(task.record.id, "free"))
        if had_row:
            self.has_row = False
        return had_row


@contextmanager
def _begun(receipt: Receipt) -> Iterator[None]:
    try:
        receipt.wait()
    except StoreUnavailableError as exc:
        _say_that_it_was_not_noted(exc)
    yield


@asynccontextmanager
async def _abegun(receipt: Receipt) -> AsyncIterator[None]:
    try:
        await receipt.received()
    except StoreUnavailableError as exc:
        _say_that_it_was_not_noted(exc)
    yield


def _say_that_it_was_not_noted(exception: StoreUnavailableError) -> None:
    """It runs all the same: that is what was promised."""
    guard.log(
        logging.WARNING,
        "A durable task begins, and its store was not told: %s",
        brief(exception),
    )
