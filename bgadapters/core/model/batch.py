"""The state machine of the tasks of one response: what waits, what runs, what is awaited.

A transition takes the lock, changes the state and returns its effects. It calls no logger, no
hook and no other lock; whoever asked for the transition performs the effects afterwards.

A signal handler may make a transition in the middle of another one of the main thread. So the
lock is re-entrant, and what it guards is right at each call that is made while it is held.

One driver at a time runs a released batch. What is *the driver's own* is written by it alone and
needs no lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from sys import exception as exception_being_handled
from time import monotonic
from typing import Any, NamedTuple

from bgadapters.core.model.batch_split import Follows, SplitBatch
from bgadapters.core.model.batch_state import CLOSED, DONE, HELD, OPEN, RUNNING
from bgadapters.core.model.errors import QueueClosedError, QueueFullError
from bgadapters.core.model.precondition import (
    Precondition,
    for_failures,
    must_wait,
    without_errands,
)
from bgadapters.core.model.record import Outcome
from bgadapters.core.model.task import Task, has_ended


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


class Batch(SplitBatch):
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
    """

    __slots__ = ()

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
        if self.added is None and self.state is OPEN:
            self.added = monotonic()
        is_simple = not (preconditions or capacity) and exception_being_handled() is None
        # To ask and to append is one step here: nothing that is called in between, and no new line,
        # lets in another thread or a signal handler. So it needs no lock, which would cost more
        # than all the rest. A transition is right at each call wherever a handler adds in this way.
        if is_simple and self.state is OPEN and self.waiting.append(task) is None:  # type: ignore[func-returns-value]
            return
        with self._lock:
            if self.state is not OPEN:
                self._admit_own_locked(task, own_limit)
            self.waiting.append(task)
            if self.added is None:  # the batch is a live one, or has ended meanwhile
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
                        self.preconditions = [*self.preconditions, each]
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
            if must_wait(self.preconditions, again):
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
            callbacks, self.callbacks = self.callbacks, None
            left, self.capacity = self.capacity, 0  # of what a drain has given up on meanwhile
            return effects._replace(freed=effects.freed + left, ended=callbacks or ())

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
            return self._discard_locked(without_errands(failed, self.preconditions))

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
            return self._discard_locked(list(self.waiting))

    # What drivers and drains may do.

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
            effects = self._discard_locked(list(self.waiting))
            self.state = DONE
            callbacks, self.callbacks = self.callbacks, None
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
            callbacks, self.callbacks = self.callbacks, None
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
            is_next = self.state is HELD and any(type(p) is Follows for p in self.preconditions)
            if self.state is RUNNING or is_next:
                self.callbacks = [*(self.callbacks or ()), callback]
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
        try:
            on_lost = self._on_lost if self.state is OPEN and self.waiting else None
        except AttributeError:  # its construction was broken off
            return
        if on_lost is not None:
            on_lost(self, self.remove())

    # What they do while they have the lock.

    def _sort_locked(self) -> None:
        """Put those first that go before the others; what a signal handler adds stays last."""
        before, self.waiting = self.waiting, deque()
        later = [task for task in before if not task.is_sent]
        first = [task for task in before if task.is_sent]
        self.waiting.extendleft(reversed([*first, *later]))
        self.sorts = False

    def _take_failed_locked(self) -> Effects:
        if not self.preconditions:
            return NOTHING
        found = [(each, each.fulfilled) for each in self.preconditions]
        for_errors = for_failures(self.preconditions)
        failed = [each for each, is_so in found if is_so is False and each not in for_errors]
        self.preconditions = [each for each, fulfilled in found if fulfilled is None]
        hit = {
            task
            for each in failed
            for task in each.tasks
            if not (each.spares_always and task.options.always)
        }
        waiting = list(self.waiting)
        tasks = without_errands([task for task in waiting if task in hit], for_errors)
        effects = self._discard_locked(tasks)._replace(failed=failed[0]) if tasks else NOTHING
        if not for_errors:
            return effects
        if self.response is not None and self.response[1] is not None:
            return effects  # it has failed: they run
        errands = {task for each in for_errors for task in each.tasks}
        unneeded = [task for task in waiting if task in errands]
        return effects._replace(
            unneeded=unneeded, freed=effects.freed + self._take_locked(unneeded)
        )

    def _discard_locked(self, tasks: list[Task]) -> Effects:
        return Effects(discarded=tasks, freed=self._take_locked(tasks)) if tasks else NOTHING
