"""What a batch consists of, and what may be asked of it and noted about it at any time.

What changes its state is in `batch`, and in `batch_split` what it does to give tasks to others.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from bgadapters.core.model.outcome import Ended, ResponseOutcome, outcome_of
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.record import Outcome, Record, id_of, next_number
from bgadapters.core.model.task import Task, has_ended

OPEN = "open"
HELD = "released, waiting for a commit"
RUNNING = "released"
DONE = "released and finished"
CLOSED = "discarded"


class Carrier(Protocol):
    """What carries a batch on an event loop: the driver's hold on it, seen from other threads."""

    def abandon(self) -> None:
        """Cancel what runs, from any thread: a drain has given up on the batch."""
        ...

    def rescue(self) -> None:
        """Take the batch from a loop that was closed and will never run it again."""
        ...

    def task_has_ended(self) -> None:
        """An async task has ended. It calls this as the last thing that it does."""
        ...


class BatchState:
    """What a `Batch` is made of.

    Args:
        path: as for `Batch`.
        priority: as for `Batch`.
        due: as for `Batch`.
        on_lost: as for `Batch`.
        method: as for `Batch`.

    Attributes:
        response: what is known of how its response has ended; None if nothing is.
        part_of: the batch that this one was flushed from; None if it was not.
        unconfirmed: what is to be done before its response begins; None if nothing is.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_apart",
        "_flushed",
        "_grown",
        "_lock",
        "_number",
        "_on_lost",
        "added",
        "awaited",
        "callbacks",
        "capacity",
        "carrier",
        "due",
        "is_abandoned",
        "is_checked",
        "method",
        "origin_loop",
        "part_of",
        "path",
        "preconditions",
        "priority",
        "response",
        "running",
        "sorts",
        "started",
        "state",
        "unconfirmed",
        "unsuccessful",
        "waiting",
    )

    is_live = False
    """Whether tasks start as they are added, until the batch ends."""
    _end_state = DONE  # what the batch is when its tasks have run

    def __init__(
        self,
        path: str | None = None,
        priority: int = 0,
        due: float | None = None,
        on_lost: Callable[[Any, Any], object] | None = None,
        method: str | None = None,
    ) -> None:
        self.path = path
        self.method = method
        self.priority = priority
        self.due = due
        self._on_lost = on_lost
        # Not threading.RLock, which is slow to make. gevent leaves this one alone: no greenlet
        # gives way to another while it is held.
        self._lock = _thread.RLock()
        self.state = OPEN  # guarded by _lock
        self.waiting: deque[Task] = deque()  # guarded by _lock, but taken from without it
        self.preconditions: Sequence[Precondition] = ()  # not resolved so far; guarded by _lock
        self.sorts = False  # whether there are tasks that go before the others
        self.is_checked = False  # whether more than its turn decides when a task may be taken
        # Tasks added while an exception was handled, and where that was; guarded by _lock.
        self._answers: dict[Task, TracebackType | None] | None = None
        self._apart: set[Task] | None = None  # leave its order; guarded by _lock
        self._flushed = 0  # tasks that were moved to other batches; guarded by _lock
        self.part_of: BatchState | None = None
        self.response: Ended | None = None
        # Each with its task. Guarded by _lock.
        self.unconfirmed: list[tuple[Task, Any]] | None = None
        self._number: int | None = None  # what its id is made of; guarded by _lock
        self.added: float | None = None  # when its first task was, by `monotonic`
        self._grown = 0  # tasks added by the batch's own tasks; guarded by _lock
        self.callbacks: list[Callable[[], None]] | None = None  # when done; guarded by _lock
        self.capacity = 0  # held in the in-flight registry; changed with _lock held
        self.unsuccessful = 0  # tasks that hold of it and have not succeeded; guarded by _lock
        self.is_abandoned = False  # a drain has given up on what was in it
        # The driver's own:
        self.running: Task | None = None
        self.started: float | None = None  # when the latest task was taken, by `monotonic`
        self.awaited: Awaitable[Any] | None = None  # what the running sync task has returned
        self.origin_loop: Any = None  # the event loop that its async tasks belong to
        self.carrier: Carrier | None = None  # strong: asyncio keeps its tasks weakly

    # What it is.

    @property
    def is_open(self) -> bool:
        """Whether it was neither released nor closed."""
        return self.state is OPEN

    @property
    def is_running(self) -> bool:
        """Whether it was released and has tasks that wait or run."""
        return self.state is RUNNING

    @property
    def is_held(self) -> bool:
        """Whether it was released and waits for a precondition."""
        return self.state is HELD

    @property
    def is_unfinished(self) -> bool:
        """Whether it was released, and has not ended: it runs, or waits for a precondition."""
        return self.state is RUNNING or self.state is HELD

    @property
    def is_left_behind(self) -> bool:
        """Whether a drain has given up on all that is in it, and has told of that."""
        return self.is_abandoned and all(map(has_ended, self.left()))

    def is_of(self, batch: BatchState) -> bool:
        """Whether both are of the same queue, as far as others know."""
        return self is batch or (self._number is not None and self._number == batch._number)

    @property
    def id(self) -> str:
        """That of the queue: what the tasks of one response have in common."""
        with self._lock:
            if self._number is None:
                self._number = next_number()
        return id_of(self._number)

    @property
    def outcome(self) -> ResponseOutcome | None:
        """How its response has ended; None if none was made, or nothing is known yet."""
        ended = (self.part_of or self).response
        return None if ended is None else outcome_of(ended)

    @property
    def position(self) -> int:
        """How many tasks it holds, those counted that were flushed; see `discard`."""
        return self._flushed + len(self.waiting)

    def place_of(self, task: Task) -> int:
        """A number that is higher for a task of this queue that was added later, to any batch."""
        with self._lock:
            if self._number is None:
                self._number = next_number()
            return self._recorded_locked(task).number - self._number

    def waits_for_this_thread(self) -> bool:
        """Whether it is held, and what it waits for is up to the thread that asks."""
        return self.state is HELD and any(
            each.fulfilled is None and each.is_up_to_this_thread()
            for each in list(self.preconditions)
        )

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return len(self.waiting)

    def __bool__(self) -> bool:
        """True, empty or not."""
        return True

    def __repr__(self) -> str:
        return f"<Batch {self.state}, {len(self.waiting)} waiting>"

    # What is in it.

    def left(self) -> list[Task]:
        """What runs and what waits, so that a task that is just being taken is in it once."""
        waiting = list(self.waiting)
        running = self.running
        return waiting if running is None else [running, *(t for t in waiting if t is not running)]

    def first(self) -> Task | None:
        """The task that comes next; None if nothing waits."""
        try:
            return self.waiting[0]
        except IndexError:
            return None

    def needs_loop(self) -> bool:
        """Whether the task that comes next belongs on an event loop."""
        try:
            return self.waiting[0].is_async
        except IndexError:  # nothing is left
            return False

    # The room that is taken for it.

    def lacking(self) -> int:
        """How much capacity it will need beside what is held; what is for later needs none."""
        lacking = len(self.waiting) - self.capacity
        if self._apart:
            lacking -= sum(task.is_delayed for task in list(self.waiting))
        return lacking

    def reserve(self, capacity: int) -> None:
        """Note that more capacity was taken for this batch."""
        with self._lock:
            self.capacity += capacity

    # What is known of its response, and of its tasks.

    def note_response(
        self,
        status: int | str | None = None,
        exception: BaseException | None = None,
        client_left: bool = False,
    ) -> None:
        """Note what is known of how its response ends. What is None stays what it was."""
        before = self.response
        if before is None:
            self.response = (status, exception, client_left)
            return
        self.response = (
            before[0] if status is None else status,
            before[1] if exception is None else exception,
            before[2] or client_left,
        )

    def forget_failure(self) -> None:
        """What has failed was tried again, and has succeeded."""
        if self.response is not None:
            self.response = (self.response[0], None, self.response[2])

    def recorded(self, task: Task) -> Record:
        """Return what is known of one of its tasks, of which somebody is about to hear."""
        with self._lock:
            return self._recorded_locked(task)

    def end_task(self, task: Task, outcome: Outcome, reason: str | None = None) -> Record | None:
        """Note how a task that was taken has ended; None if it has ended before.

        A task that nobody wants to hear of succeeds without it.
        """
        with self._lock:
            return self._end_locked(task, outcome, reason)

    def settle(self, task: Task, outcome: Outcome, reason: str) -> Record:
        """Note how a task has ended that was taken from those that wait, and why."""
        with self._lock:
            record = self._recorded_locked(task)
            record.outcome, record.reason = outcome, reason
            record.ended = record.ended or monotonic()
            return record

    def _recorded_locked(self, task: Task) -> Record:
        record = task.record
        if record is None:
            record = task.record = Record(self, self.added)
        if task is self.running:
            record.started = self.started
        return record

    def _end_locked(self, task: Task, outcome: Outcome, reason: str | None = None) -> Record | None:
        record = self._recorded_locked(task)
        if record.outcome is not None:
            return None
        record.outcome, record.reason, record.ended = outcome, reason, monotonic()
        if outcome != "succeeded":
            self.unsuccessful += 1
        return record

    def _take_locked(self, tasks: list[Task]) -> int:
        """Take tasks that wait; return the capacity that was held for them."""
        if not tasks:
            return 0
        taken = set(tasks)
        before, self.waiting = self.waiting, deque()  # what a signal handler adds comes last
        self.waiting.extendleft([task for task in reversed(before) if task not in taken])
        freed = min(self.capacity, len(tasks))
        self.capacity -= freed
        return freed
