"""The state machine of the tasks of one response: what waits, what runs, what is awaited.

A transition takes the lock, changes the state and returns its effects. It calls no logger, no
hook and no other lock; whoever asked for the transition performs the effects afterwards.

A signal handler may make a transition in the middle of another one of the main thread. So the
lock is re-entrant, and what it guards is right at each call that is made while it is held.

One driver at a time runs a released batch. What is *the driver's own* is written by it alone and
needs no lock.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from sys import exception as exception_being_handled
from time import monotonic
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from bgadapters.core.model.errors import QueueClosedError, QueueFullError
from bgadapters.core.model.outcome import Ended, ResponseOutcome, outcome_of
from bgadapters.core.model.precondition import Precondition, ResponseFailed
from bgadapters.core.model.record import Outcome, Record, id_of, next_number
from bgadapters.core.model.task import Task

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


class Effects(NamedTuple):
    """What a transition leaves to its caller.

    Attributes:
        begins: the batch has tasks and is to be run.
        discarded: tasks that will not run, to be told of.
        failed: the precondition that discarded them; None if it was the response.
        freed: capacity to be given back.
        apart: batches to be released now, those of higher priority first: of tasks that have left
            the order.
        unneeded: tasks that were for a response that fails, which has not; to be told of.
        ended: to be called: the batch has ended with nothing to run.
    """

    begins: bool = False
    discarded: Sequence[Task] = ()
    failed: Precondition | None = None
    freed: int = 0
    apart: Sequence[Batch] = ()
    unneeded: Sequence[Task] = ()
    ended: Sequence[Callable[[], None]] = ()


NOTHING = Effects()
BEGINS = Effects(begins=True)


class Batch:
    """The tasks of one response, run one at a time in the order added.

    It is *open* until it is released or closed. A released batch is *held* while a precondition
    is not resolved, then *running* until its last task has ended, then *done*.

    Args:
        path: that of the request, for observers. Default: None.
        priority: among batches that wait for a worker thread, those with a higher one go first.
        due: the time before which no task starts, as `time.monotonic` tells it. Default: at once.
        on_lost: called with the batch and its effects where nobody has released it and nobody can
            release it any more, by the garbage collector. Default: nothing is called.
        method: that of the request, for observers. Default: None.

    Attributes:
        response: what is known of how its response has ended; None if nothing is.
        part_of: the batch that this one was flushed from; None if it was not.
        unconfirmed: what is to be done before its response begins; None if nothing is.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_apart",
        "_callbacks",
        "_flushed",
        "_grown",
        "_lock",
        "_number",
        "_on_lost",
        "added",
        "awaited",
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
        on_lost: Callable[[Batch, Effects], object] | None = None,
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
        self.preconditions: list[Precondition] = []  # not seen to be resolved; guarded by _lock
        self.sorts = False  # whether there are tasks that go before the others
        self.is_checked = False  # whether more than its turn decides when a task may be taken
        # Tasks added while an exception was handled, and where that was; guarded by _lock.
        self._answers: dict[Task, TracebackType | None] | None = None
        self._apart: set[Task] | None = None  # leave its order; guarded by _lock
        self._flushed = 0  # tasks that were moved to other batches; guarded by _lock
        self.part_of: Batch | None = None
        self.response: Ended | None = None
        # Each with its task. Guarded by _lock.
        self.unconfirmed: list[tuple[Task, Any]] | None = None
        self._number: int | None = None  # what its id is made of; guarded by _lock
        self.added: float | None = None  # when its first task was, by `monotonic`
        self._grown = 0  # tasks added by the batch's own tasks; guarded by _lock
        self._callbacks: list[Callable[[], None]] | None = None  # when done; guarded by _lock
        self.capacity = 0  # held in the in-flight registry; changed with _lock held
        self.unsuccessful = 0  # tasks that hold of it and have not succeeded; guarded by _lock
        self.is_abandoned = False  # a drain has given up on what was in it
        # The driver's own:
        self.running: Task | None = None
        self.started: float | None = None  # when the latest task was taken, by `monotonic`
        self.awaited: Awaitable[Any] | None = None  # what the running sync task has returned
        self.origin_loop: Any = None  # the event loop that its async tasks belong to
        self.carrier: Carrier | None = None  # strong: asyncio keeps its tasks weakly

    # What may be asked at any time.

    @property
    def is_open(self) -> bool:
        """Whether it was neither released nor closed."""
        return self.state is OPEN

    @property
    def id(self) -> str:
        """That of the queue: what the tasks of one response have in common."""
        with self._lock:
            if self._number is None:
                self._number = next_number()
        return id_of(self._number)

    def place_of(self, task: Task) -> int:
        """A number that is higher for a task of this queue that was added later, to any batch."""
        with self._lock:
            if self._number is None:
                self._number = next_number()
            return self._recorded_locked(task).number - self._number

    @property
    def is_running(self) -> bool:
        """Whether it was released and has tasks that wait or run."""
        return self.state is RUNNING

    @property
    def is_unfinished(self) -> bool:
        """Whether it was released, and has not ended: it runs, or waits for a precondition."""
        return self.state is RUNNING or self.state is HELD

    def is_of(self, batch: Batch) -> bool:
        """Whether both are of the same queue, as far as others know."""
        return self is batch or (self._number is not None and self._number == batch._number)

    @property
    def is_left_behind(self) -> bool:
        """Whether a drain has given up on all that is in it, and has told of that."""
        return self.is_abandoned and all(map(has_ended, self.left()))

    @property
    def is_held(self) -> bool:
        """Whether it was released and waits for a precondition."""
        return self.state is HELD

    @property
    def outcome(self) -> ResponseOutcome | None:
        """How its response has ended; None if none was made, or nothing is known yet."""
        ended = (self.part_of or self).response
        return None if ended is None else outcome_of(ended)

    @property
    def position(self) -> int:
        """How many tasks it holds, those counted that were flushed; see `discard`."""
        return self._flushed + len(self.waiting)

    def earlier(self) -> list[Batch]:
        """The unfinished batches that were flushed before this one, the oldest first."""
        found: list[Batch] = []
        before = _unfinished_before(self)
        while before is not None:
            found.insert(0, before)
            before = _unfinished_before(before)
        return found

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

    def left(self) -> list[Task]:
        """What runs and what waits, so that a task that is just being taken is in it once."""
        waiting = list(self.waiting)
        running = self.running
        return waiting if running is None else [running, *(t for t in waiting if t is not running)]

    # What whoever makes the response may do.

    def add(
        self,
        task: Task,
        preconditions: Iterable[Precondition] = (),
        capacity: int = 0,
        own_limit: int | None = None,
    ) -> None:
        """Add a task.

        Args:
            task: the task.
            preconditions: what it waits for; each is new, or one of this batch's.
            capacity: what was taken for it in the in-flight registry.
            own_limit: given if a task of this batch adds it: how many these may add at most.

        Raises:
            QueueClosedError: the batch was released or closed.
            QueueFullError: the batch's own tasks have added ``own_limit`` tasks already.
        """
        with self._lock:
            if self.state is not OPEN:
                self._admit_own_locked(task, own_limit)
            self.waiting.append(task)
            if self.added is None:
                self.added = monotonic()
            if capacity:
                self.capacity += capacity
            handled = exception_being_handled()
            if handled is not None:
                self._answers = self._answers or {}
                self._answers[task] = handled.__traceback__
            if preconditions:
                self.is_checked = True
                for each in preconditions:
                    if not each.tasks:  # it is new
                        self.preconditions.append(each)
                    each.tasks.append(task)

    def add_apart(self, task: Task, preconditions: Iterable[Precondition], capacity: int) -> None:
        """Add a task that gets a batch of its own when this one, which is open, is released.

        Args:
            task: as for `add`.
            preconditions: as for `add`.
            capacity: as for `add`.

        Raises:
            QueueClosedError: as `add`.
        """
        with self._lock:
            self._apart = self._apart or set()
            self._apart.add(task)
            self.add(task, preconditions, capacity)

    def confirm_with(self, task: Task, what: Any) -> bool:
        """Note what is to be done for a task before the response begins; False if that is over."""
        with self._lock:
            if self.state is not OPEN:
                return False
            if self.unconfirmed is None:
                self.unconfirmed = []
            self.unconfirmed.append((task, what))
            return True

    def take_unconfirmed(self) -> list[Any]:
        """Return what was noted, to be done now; but not what is for tasks that were discarded."""
        with self._lock:
            found, self.unconfirmed = self.unconfirmed or (), None
            waiting = set(self.waiting)
            return [what for task, what in found if task in waiting]

    def _admit_own_locked(self, task: Task, limit: int | None) -> None:
        if self.state is not RUNNING or limit is None:
            raise QueueClosedError(
                f"cannot add {task.name}: the queue of this response was {self.state}. "
                "Add tasks before the response is complete, or from a task of the same queue."
            )
        if self._grown >= limit:
            raise QueueFullError(
                f"cannot add {task.name}: the tasks of this queue have added {limit} tasks to it "
                "already (max_pending), as a task does that adds itself without end."
            )
        self._grown += 1

    def release(self, again: Callable[[], object]) -> Effects:
        """The response is complete: its tasks may run. Does nothing the second time.

        Args:
            again: releases the batch again, called when a precondition was resolved that it has
                to wait for.
        """
        with self._lock:
            if self.state is not OPEN and self.state is not HELD:
                return NOTHING
            self._answers = None  # its tracebacks keep frames
            if self.sorts:
                self._sort_locked()
            if not (self.preconditions or self._apart):  # as nearly always
                if self.waiting:
                    self.state = RUNNING
                    return BEGINS
                self.state = self._end_state
                return NOTHING
            if self._must_wait_locked(again):
                self.state = HELD
                return NOTHING
            effects = self._take_failed_locked()
            freed, apart = self._set_apart_locked()
            apart.sort(key=lambda batch: -batch.priority)
            effects = effects._replace(apart=apart, freed=effects.freed + freed)
            if self.waiting:
                self.state = RUNNING
                return effects._replace(begins=True)
            self.state = self._end_state
            callbacks, self._callbacks = self._callbacks, None
            left, self.capacity = self.capacity, 0  # of what a drain has given up on meanwhile
            return effects._replace(freed=effects.freed + left, ended=callbacks or ())

    def flush(self) -> Batch | None:
        """Move what was added so far to a batch of its own, to be released now.

        What is added from now on waits until that has finished, as in one batch. Tasks for a
        response that fails stay, as long as nobody knows whether it does.

        Returns:
            That batch; None if nothing waits, or this one was released or closed.
        """
        with self._lock:
            if self.state is not OPEN:
                return None
            for_errors = [each for each in self.preconditions if isinstance(each, ResponseFailed)]
            staying = {task for each in for_errors for task in each.tasks}
            moving = {task for task in list(self.waiting) if task not in staying}
            if not moving:
                return None
            first = self._split_locked(moving)
            first.part_of = self
            first.preconditions = [each for each in first.preconditions if each not in for_errors]
            follows = _Follows(first)
            first._callbacks = [partial(follows.resolve, True)]  # noqa: SLF001  its own class
            self.preconditions = [*for_errors, follows]
            self._flushed += len(moving)
            for task in moving.intersection(self._answers or ()):
                del self._answers[task]  # type: ignore[union-attr]  # it has the task
            return first

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

    def discard(
        self,
        exception: BaseException,
        since: int = 0,
        which: Callable[[Task], bool] | None = None,
    ) -> Effects:
        """The view failed: take what was added, except ``always`` tasks. The batch stays open.

        Tasks that were added while this exception was handled, where it is handled now, belong to
        the response that is sent instead: they stay.

        Args:
            exception: why it failed.
            since: its `position` when the part that failed began; what was added before stays.
            which: tells whether a task is of the part that failed. Default: all are.
        """
        with self._lock:
            if self.state is not OPEN:
                return NOTHING
            answers = self._answers or {}
            where = exception.__traceback__  # grows on its way: a new object each time
            failed = [
                task
                for task in list(self.waiting)[max(0, since - self._flushed) :]
                if not task.options.always
                and (which is None or which(task))
                and (task not in answers or answers[task] is not where)
            ]
            if not since and which is None:
                self.note_response(exception=exception)
            return self._take_locked(_without_errands(failed, self.preconditions))

    def close_if_empty(self) -> bool:
        """No response comes of it: end it if nothing waits; tell whether that has ended it."""
        with self._lock:
            if self.state is not OPEN:
                return True
            if self.waiting:
                return False
            self.state = CLOSED
            return True

    def remove(self) -> Effects:
        """End an open batch that nobody will release, and take what waits in it."""
        with self._lock:
            if self.state is not OPEN:
                return NOTHING
            self.state = CLOSED
            return self._take_locked(list(self.waiting))

    # What drivers and drains may do.

    def _sort_locked(self) -> None:
        """Put those first that go before the others; what a signal handler adds stays last."""
        before, self.waiting = self.waiting, deque()
        later = [task for task in before if not task.is_sent]
        first = [task for task in before if task.is_sent]
        self.waiting.extendleft(reversed([*first, *later]))
        self.sorts = False

    def reserve(self, capacity: int) -> None:
        """Note that more capacity was taken for this batch."""
        with self._lock:
            self.capacity += capacity

    def set_apart(self, task: Task, due: float) -> Batch | None:
        """Give the task that runs a batch of its own, open to be released, in which it waits.

        It keeps the capacity that was taken for it.

        Args:
            task: the task that runs.
            due: as for the constructor.

        Returns:
            The batch; None if a drain has given up on the task.
        """
        with self._lock:
            if has_ended(task):
                return None
            apart = self._batch_for_locked(task, due)
            apart.capacity = min(self.capacity, 1)
            self.capacity -= apart.capacity
            return apart

    def put_back_untouched(self) -> None:
        """Have a task wait again, as the first, that was taken and whose call was never begun.

        Its loop was closed before the first step. One that has begun has told of its end.
        """
        with self._lock:
            task, self.running = self.running, None
            if task is not None and self.awaited is not None:
                self.running = task  # what it has returned is still to be awaited
            elif task is not None and not has_ended(task):
                self.waiting.appendleft(task)

    def put_last(self, task: Task) -> bool:
        """Have the task that runs wait once more, as the last; False if a drain has given up."""
        with self._lock:
            if has_ended(task):
                return False
            self.waiting.append(task)
            return True

    def lacking(self) -> int:
        """How much capacity it will need beside what is held; what is for later needs none."""
        lacking = len(self.waiting) - self.capacity
        if self._apart:
            lacking -= sum(task.is_delayed for task in list(self.waiting))
        return lacking

    def needs_loop(self) -> bool:
        """Whether the task that comes next belongs on an event loop."""
        try:
            return self.waiting[0].is_async
        except IndexError:  # nothing is left
            return False

    def first(self) -> Task | None:
        """The task that comes next; None if nothing waits."""
        try:
            return self.waiting[0]
        except IndexError:
            return None

    def take(self, is_async: bool) -> Task | None:
        """Take the next task to run it, if it is of this kind.

        The driver alone calls it, so that it needs no lock, which would cost as much as the rest.
        A drain may take what is left at any point here: it then names the task, once, and here is
        none. Where the batch is checked, whoever checks it calls this.
        """
        waiting = self.waiting
        try:
            task = waiting[0]
            if task.is_async is is_async:
                self.running = task  # before it leaves the others, or a drain might miss it
                self.started = monotonic()
                return waiting.popleft()
        except IndexError:
            self.running = None
        return None

    def take_failed(self) -> Effects:
        """Take the tasks, added by the batch's own, whose precondition was not fulfilled.

        Where that of the next task is not resolved, those that have to wait are moved to a batch
        of their own, to be released.
        """
        with self._lock:
            effects = self._take_failed_locked()
            undecided = {task for each in self.preconditions for task in each.tasks}
            if self.waiting and self.waiting[0] in undecided:
                return effects._replace(apart=[self._split_locked(undecided)])
            return effects

    def withdraw(self, task: Task) -> int | None:
        """Take a task that waits, from any thread, when whoever runs it was kept from taking it.

        Returns:
            The capacity to be given back; None if the task does not wait here any more.
        """
        with self._lock:
            try:
                self.waiting.remove(task)  # in place: the driver may be taking another one
            except ValueError:
                return None
            freed = min(self.capacity, 1)
            self.capacity -= freed
            return freed

    def intercept(self) -> Effects:
        """Take what waits in a running batch, to be put back later; the batch is done."""
        with self._lock:
            effects = self._take_locked(list(self.waiting))
            self.state = DONE
            callbacks, self._callbacks = self._callbacks, None
            return effects._replace(ended=callbacks or ())

    def put_back(self, tasks: Iterable[Task]) -> bool:
        """Take back what `intercept` gave; tell whether the batch is to be started again.

        Otherwise it is running, and they run last.
        """
        with self._lock:
            was_running = self.state is RUNNING
            self.waiting.extend(tasks)
            self.state = RUNNING
            return not was_running

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

    def finish(self) -> tuple[int, int, Sequence[Callable[[], None]]] | None:
        """Leave the state *running* unless there is more to do, and then return None.

        Returns:
            The capacity to be given back, how many of its tasks have succeeded, and what is to be
            called.
        """
        with self._lock:
            if self.waiting or self.awaited is not None:
                return None
            self.state = self._end_state
            self.running = self.carrier = self.added = None
            capacity, self.capacity = self.capacity, 0
            callbacks, self._callbacks = self._callbacks, None
            if not self.unsuccessful:
                return capacity, capacity, callbacks or ()
            unsuccessful, self.unsuccessful = self.unsuccessful, 0
            # What was abandoned before it was due held nothing.
            return capacity, max(0, capacity - unsuccessful), callbacks or ()

    def on_finished(self, callback: Callable[[], None]) -> bool:
        """Have ``callback`` called when the batch is done; False if it is not running.

        What waits for nothing but those flushed before it counts as running.
        """
        with self._lock:
            is_next = self.state is HELD and any(type(p) is _Follows for p in self.preconditions)
            if self.state is RUNNING or is_next:
                self._callbacks = [*(self._callbacks or ()), callback]
                return True
            return False

    def abandon(self, outcome: Outcome = "abandoned") -> list[Task]:
        """Give up on the batch: take what waits; return that and what runs, unless it was told.

        All of that has ended so, whatever becomes of what still runs.
        """
        with self._lock:
            left = self.left()
            self.waiting.clear()
            self.is_abandoned = True
            return [task for task in left if self._end_locked(task, outcome) is not None]

    def reset_after_fork(self) -> None:
        """Forget what waits: greenlets live on in a forked child, and would run it again."""
        self.waiting.clear()
        self.awaited = None
        self.capacity = self.unsuccessful = 0  # it was the parent's

    def __del__(self) -> None:
        if getattr(self, "state", None) is OPEN and self._on_lost:
            effects = self.remove()
            if effects.discarded:
                self._on_lost(self, effects)

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

    def _must_wait_locked(self, again: Callable[[], object]) -> bool:
        """Whether a precondition is not resolved; it then releases the batch."""
        for each in reversed(self.preconditions):  # the last one is the last to resolve, as a rule
            each.hold(again)  # before it is asked: another thread may be resolving it
            if each.fulfilled is None:
                return True
            each.unhold()
        return False

    def _take_failed_locked(self) -> Effects:
        if not self.preconditions:
            return NOTHING
        found = [(each, each.fulfilled) for each in self.preconditions]
        for_errors = [each for each, _ in found if isinstance(each, ResponseFailed)]
        failed = [each for each, is_so in found if is_so is False and each not in for_errors]
        self.preconditions = [each for each, fulfilled in found if fulfilled is None]
        hit = {
            task
            for each in failed
            for task in each.tasks
            if not (each.spares_always and task.options.always)
        }
        waiting = list(self.waiting)
        tasks = _without_errands([task for task in waiting if task in hit], for_errors)
        effects = self._take_locked(tasks)._replace(failed=failed[0]) if tasks else NOTHING
        if not for_errors:
            return effects
        if self.response is not None and self.response[1] is not None:
            return effects  # it has failed: they run
        errands = {task for each in for_errors for task in each.tasks}
        unneeded = self._take_locked([task for task in waiting if task in errands])
        return effects._replace(unneeded=unneeded.discarded, freed=effects.freed + unneeded.freed)

    def _split_locked(self, tasks: set[Task]) -> Batch:
        """Move tasks, and what they wait for, to a new batch."""
        later = self._alike_locked(self.priority)
        later.is_checked, later.sorts = True, self.sorts
        if self._apart is not None:
            moving = self._apart & tasks
            later._apart, self._apart = moving, self._apart - tasks  # noqa: SLF001  its own class
        later.preconditions, self.preconditions = self.preconditions, []
        later.waiting.extend(task for task in self.waiting if task in tasks)
        later.capacity = self._take_locked(list(later.waiting)).freed
        return later

    def _take_locked(self, tasks: list[Task]) -> Effects:
        """Take tasks that wait, and the capacity that is held for them."""
        if not tasks:
            return NOTHING
        taken = set(tasks)
        before, self.waiting = self.waiting, deque()  # what a signal handler adds comes last
        self.waiting.extendleft([task for task in reversed(before) if task not in taken])
        freed = min(self.capacity, len(tasks))
        self.capacity -= freed
        return Effects(discarded=tasks, freed=freed)

    def _set_apart_locked(self) -> tuple[int, list[Batch]]:
        """Give the tasks that leave the order a batch each; return what capacity is left over."""
        if not self._apart:
            return 0, []
        apart, self._apart = self._apart, None
        tasks = [task for task in list(self.waiting) if task in apart]
        freed = self._take_locked(tasks).freed  # which changes the capacity
        self.capacity += freed
        spare = max(0, self.capacity - len(self.waiting))
        self.capacity -= spare
        batches = [self._batch_for_locked(task, task.due()) for task in tasks]
        for batch in batches:
            if batch.due is None and spare:
                batch.capacity = 1
                spare -= 1
        return spare, batches

    def _batch_for_locked(self, task: Task, due: float | None) -> Batch:
        apart = self._alike_locked(task.options.priority, due)
        apart.is_checked = self.is_checked
        apart.waiting.append(task)
        return apart

    def _alike_locked(self, priority: int, due: float | None = None) -> Batch:
        """Make another batch, which to others is the same queue."""
        if self._number is None:
            self._number = next_number()
        alike = Batch(self.path, priority, due, self._on_lost, self.method)
        alike._number, alike.added = self._number, self.added
        alike.origin_loop = self.origin_loop
        alike.response, alike.part_of = self.response, self.part_of
        return alike

    def alike(self) -> Batch:
        """Return another batch, open and without tasks, which to others is the same queue."""
        with self._lock:
            return self._alike_locked(self.priority)


def has_ended(task: Task) -> bool:
    """Whether it was told how a task has ended. It may run on, if a drain has given up on it."""
    return task.record is not None and task.record.outcome is not None


class _Follows(Precondition):
    """The batch that was flushed before has finished."""

    def __init__(self, first: Batch) -> None:
        super().__init__()
        self.first = first

    def is_up_to_this_thread(self) -> bool:
        """Whether that one waits for what only this thread can resolve."""
        return self.first.waits_for_this_thread()


def failure_of(batch: Batch) -> ResponseFailed:
    """Return what a task waits for that is for a response that fails."""
    for each in list(batch.preconditions):
        if isinstance(each, ResponseFailed) and each.tasks:
            return each
    return ResponseFailed()


def _unfinished_before(batch: Batch) -> Batch | None:
    for each in list(batch.preconditions):
        if isinstance(each, _Follows) and each.fulfilled is None:
            return each.first
    return None


def _without_errands(tasks: list[Task], preconditions: Iterable[Precondition]) -> list[Task]:
    """Of tasks that something has kept from running, return those that are to be discarded.

    The others, which were added for this very case, are to run now.
    """
    errands = {task for task in tasks if task.options.run_on == "error"}
    if not errands:
        return tasks
    for each in preconditions:
        if isinstance(each, ResponseFailed):
            each.tasks = [task for task in each.tasks if task not in errands]
    return [task for task in tasks if task not in errands]


class LiveBatch(Batch):
    """The tasks of a connection that lasts: it is open again when they have run, until it ends."""

    __slots__ = ("_end_state", "is_live")

    def __init__(
        self,
        path: str | None = None,
        on_lost: Callable[[Batch, Effects], object] | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__(path, on_lost=on_lost, method=method)
        self._end_state = OPEN  # guarded by _lock
        self.is_live = True  # guarded by _lock

    def end(self) -> None:
        """The connection is over: only the batch's own tasks may add more. What waits runs."""
        with self._lock:
            self._end_state, self.is_live = DONE, False
            if self.state is OPEN and not self.waiting:
                self.state = DONE

    def _admit_own_locked(self, task: Task, limit: int | None) -> None:
        if self._end_state is not OPEN:
            super()._admit_own_locked(task, limit)
