"""Tasks with options that change when, how often and in what they are called.

Such a task is a `Task` of another type, made by ``add_task``. Each option is a `Feature` of it,
in a module of its own. So a task without them costs nothing more, and no driver knows of them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
)
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal

from bgadapters.core.model.errors import BackgroundTasksError
from bgadapters.core.model.event import TaskObserver
from bgadapters.core.model.events import brief
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import Call, FullTask, Surrounded, Task, Wait, is_awaitable

Unrun = Literal["replaced", "abandoned", "sent"]
"""How a task may end whose turn has come, and that is not called."""
Around = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]


class NotToRun(BackgroundTasksError):  # noqa: N818  it is no error
    """Raised by what a feature enters around an attempt: the task ends, and is not called.

    Args:
        outcome: how it ends.
        reason: why.
    """

    def __init__(self, outcome: Unrun, reason: str) -> None:
        super().__init__(reason)
        self.outcome: Unrun = outcome


class Feature:
    """What one option does to one task. A subclass defines what it needs of the methods.

    Attributes:
        deadline: when the attempt that runs should have ended, as `time.monotonic` tells it; None
            if nothing says so.
        is_kept: as that of a task.
        is_older: as that of a task.
        is_sent: as that of a task.
        hands_back: as that of a task.
        observer: as that of a task.
    """

    __slots__ = ()

    deadline: float | None = None
    is_kept = False
    is_older = False
    is_sent = False
    hands_back = False
    observer: TaskObserver | None = None

    def around(self, task: ControlledTask, is_async: bool) -> Around | None:  # noqa: ARG002
        """Return what is entered around an attempt, in the task's context; None for nothing.

        Args:
            task: the task.
            is_async: whether it is to be an asynchronous context manager. A sync task that has
                returned an awaitable is entered twice, as by a task middleware.
        """
        return None

    def next_attempt(self, task: ControlledTask, exception: BaseException) -> Wait | None:  # noqa: ARG002
        """An attempt has raised: return how long to wait for the next one; None for no other."""
        return None

    def on_next_attempt(self, task: ControlledTask, wait: Wait) -> None:
        """An attempt has raised, and there will be another one."""

    def on_success(self, task: ControlledTask) -> None:
        """An attempt has returned: the task has succeeded."""

    def on_key_entered(self, task: ControlledTask) -> None:
        """It was released, and waits with its key from now on."""

    def on_attempt_ended(self, task: ControlledTask) -> None:
        """An attempt is over in whatever way, or will not be made: give back what it holds.

        It may be called more than once, from any thread.
        """


class ControlledTask(FullTask):
    """A task with features.

    Args:
        task: the task without them, in the context of the moment in which it was added.
        record: what is known of it.
        features: what its options do to it, the outermost first.

    Attributes:
        failures: what its earlier attempts have raised, in short.
        features: as given.
    """

    __slots__ = (
        "_run_after",
        "_task",
        "failures",
        "features",
        "is_async",
        "is_delayed",
        "leaves_order",
        "may_hurry",
    )

    record: Record  # pyright: ignore[reportIncompatibleVariableOverride]  # never None

    def __init__(self, task: Task, record: Record, features: Sequence[Feature]) -> None:
        super().__init__(task.func, task.args, task.kwargs, task.context.copy(), task.options)
        self.record = record  # pyright: ignore[reportIncompatibleVariableOverride]
        self._task = task
        after = task.options.run_after
        self._run_after = None if after is None else timestamp(after)
        self.features = features
        self.failures: Sequence[str] = ()
        self.may_hurry = False
        self.is_async = task.is_async
        self.is_delayed = bool(task.options.delay) or after is not None
        self.leaves_order = self.is_delayed or task.options.priority != 0

    @property
    def deadline(self) -> float | None:  # type: ignore[override]  # of a plain task it is a constant
        """When the attempt that runs should have ended."""
        found = (feature.deadline for feature in self.features)
        return next((each for each in found if each is not None), None)

    def due(self) -> float | None:
        """When it starts if it is released now, as `time.monotonic` tells it; None for at once."""
        options, now = self.options, time.monotonic()
        if self._run_after is not None:
            return now + self._run_after - time.time()
        return now + options.delay if options.delay else None

    @property
    def is_older(self) -> bool:  # type: ignore[override]  # of a plain task it is a constant
        """Whether it was released before all that waits here."""
        return any(feature.is_older for feature in self.features)

    @property
    def is_sent(self) -> bool:  # type: ignore[override]  # of a plain task it is a constant
        """Whether its turn is that of being sent."""
        return any(feature.is_sent for feature in self.features)

    @property
    def is_kept(self) -> bool:  # type: ignore[override]  # of a plain task it is a constant
        """Whether another process runs it if this one does not."""
        return any(feature.is_kept for feature in self.features)

    @property
    def observer(self) -> TaskObserver | None:
        """Who is told what becomes of it."""
        found = (feature.observer for feature in self.features)
        return next((each for each in found if each is not None), None)

    @property
    def uncontrolled(self) -> Task:
        """The task without its features."""
        return self._task

    def unwrap(self) -> Call:
        """Return the call as whoever added the task has written it."""
        return self._task.unwrap()

    def call(self) -> Any:
        """Make the call, inside of what its features enter."""
        if self.is_async:
            return self.acall(None)
        try:
            arounds = self._arounds(is_async=False)
            first = next(arounds, None)
            if first is None:  # a stack for nothing would cost more than all of this
                result = self._task.call()
            else:
                with ExitStack() as stack:
                    for around in chain((first,), arounds):
                        stack.enter_context(around)
                    result = self._task.call()
            if result is not None and is_awaitable(result):
                return Surrounded(self.acall, result)
        except BaseException:
            self.end_attempt()
            raise
        self._succeed()
        return result

    async def acall(self, result: Awaitable[Any] | None) -> Any:
        """Await the call inside of what its features enter, or what it has returned already."""
        try:
            async with AsyncExitStack() as stack:
                for around in self._arounds(is_async=True):
                    await stack.enter_async_context(around)
                if result is None:
                    result = self._task.call()
                while result is not None and is_awaitable(result):
                    result = await result
        except BaseException:
            self.end_attempt()
            raise
        self._succeed()
        return result

    def next_attempt(self, exception: BaseException) -> Wait | None:
        """Ask the features."""
        self.end_attempt()
        for feature in self.features:
            wait = feature.next_attempt(self, exception)
            if wait is not None:
                self.failures = (*self.failures, brief(exception))
                self.may_hurry = not wait.is_asked_for
                for each in self.features:
                    each.on_next_attempt(self, wait)
                return wait
        return None

    @property
    def hands_back(self) -> bool:  # type: ignore[override]  # of a plain task it is a constant
        """Whether somebody else makes the next attempt."""
        return any(feature.hands_back for feature in self.features)

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or comes next, from 1."""
        return self.record.attempt

    def begin_again(self) -> None:
        """The next attempt has a fresh copy of the context in which the task was added."""
        self.record.begin_again()
        self.context = self._task.context.copy()

    def end_attempt(self) -> None:
        """Have the features give back what an attempt holds, which has ended or is not made."""
        for feature in self.features:
            feature.on_attempt_ended(self)

    def on_key_entered(self) -> None:
        """Tell the features."""
        for feature in self.features:
            feature.on_key_entered(self)

    def _succeed(self) -> None:
        self.end_attempt()
        for feature in self.features:
            feature.on_success(self)

    def _arounds(self, is_async: bool) -> Iterator[Any]:
        for feature in self.features:
            around = feature.around(self, is_async)
            if around is not None:
                yield around


def timestamp(moment: datetime) -> float:
    """Return a time as `time.time` tells it; one without a zone is the local one.

    Not by the difference of two times of one zone: that is one of their clocks, which a change to
    or from summer time puts forward or back.
    """
    if moment.utcoffset() is None:
        moment = moment.replace(tzinfo=None)
    try:
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):  # the first and last local times there are
        return moment.replace(tzinfo=UTC).timestamp()
