"""Whether a task with a key, a limit or an engine may run when its turn has come.

Drivers ask it about batches that have such tasks, and about no others. As long as any function is
known to hold the interpreter's lock, those with plain tasks are asked about as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal

from bgadapters.core.control.holders import Holders, function_of, scale
from bgadapters.core.control.keys import Keyed, Keys, Loss
from bgadapters.core.control.lane import Lane
from bgadapters.core.control.limits import Limits
from bgadapters.core.control.parked import Parked, Resume
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.lock_watch import Look, Worker
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task, TaskWrapper

_LEFT = 0.1  # of the time is left at least; others may have burned without the lock
_REPLACED = "another task with the key {!r} waits in its place"
_FORGOTTEN = "forget({!r}) was called"


class Turns:
    """The keys, limits and engines of one application, and tasks that hold the interpreter's lock.

    Args:
        execution: the application.
        numbers: the setting ``concurrency``.
        resume: has a batch go on, whatever comes next.
        to_worker: has the next free worker go on with a batch.
        take_from_timer: takes a batch that waits for its time; tells whether it did.
    """

    def __init__(
        self,
        execution: Execution,
        numbers: Mapping[str, int],
        resume: Callable[[Batch], object],
        to_worker: Callable[[Batch], object],
        take_from_timer: Callable[[Batch], bool],
    ) -> None:
        self._execution = execution
        self._resume = resume
        self._to_worker = to_worker
        self._take_from_timer = take_from_timer
        self._keys = Keys()
        self._limits = Limits(numbers)
        self._places_of: dict[str, int] = {}  # how many each engine has
        self._engines = Limits(self._places_of)
        self._holders = Holders()
        self._lane = Lane()

    def reset_after_fork(self) -> None:
        """Start with nothing: in a forked child."""
        self._keys.reset_after_fork()
        self._limits.reset_after_fork()
        self._engines.reset_after_fork()
        self._holders = Holders()
        self._lane.reset_after_fork()

    def begin(self, batch: Batch, tasks: Iterable[Task], was_first: bool = False) -> None:
        """Have the keys of tasks count, which wait in a batch from now on.

        Args:
            batch: a batch that was released.
            tasks: tasks that wait in it.
            was_first: whether they were released before what waits now, and have run since.
        """
        for task in tasks:
            keyed = _keyed(task, batch)
            if keyed is not None:
                self._enter(keyed, was_first or task.is_older)
                if not was_first:
                    task.on_key_entered()

    def take(
        self, batch: Batch, is_async: bool, resume: Resume | None = None
    ) -> Task | Literal[False] | None:
        """Take the next task of a batch, if it is of this kind, to run it.

        The batch's driver alone calls this; the task before has ended. See the protocol.
        """
        while True:
            if batch.preconditions:
                self._execution.take_failed(batch)
            task = batch.first()
            self._give_back(batch, task)
            if task is None or task.is_async is not is_async:
                return None
            if not self._may_run(batch, task, resume):
                return False
            keyed = _keyed(task, batch)
            if keyed is None:
                return batch.take(is_async)
            if self._claim(keyed):
                try:
                    return batch.take(is_async)
                finally:
                    self._keys.started(batch)

    def settle(self, batch: Batch) -> None:
        """The last task of a batch has ended, or its driver was broken off."""
        self._give_back(batch, batch.first())

    def lose(self, batch: Batch, tasks: Iterable[Task]) -> None:
        """Tasks of a batch that was released have ended and have not started."""
        for task in tasks:
            keyed = _keyed(task, batch)
            if keyed is not None:
                self._keys.leave(keyed)

    def forget(self, key: str) -> bool:
        """Discard the task that waits with a key; tell whether there was one."""
        keyed = self._keys.forget(key)
        return keyed is not None and self._withdraw(keyed, Loss.FORGOTTEN)

    def judge(self, look: Look) -> tuple[bool, bool]:
        """Learn from a look who holds the interpreter's lock; let go on who may.

        Returns:
            Whether any function is known to hold it, and whether a task of one runs or waits.
        """
        resumed = list(self._lane.release(self._holders.note(look)))
        holding = [each for each in look.workers if self._is_holder(each.task)]
        for worker in holding:
            worker.batch.is_checked = True  # there may be more of them in it
        resumed += self._lane.adjust(_held(look, holding))
        for go_on in resumed:
            go_on()
        return bool(self._holders), bool(holding) or self._lane.has_line

    def _is_holder(self, task: Task) -> bool:
        return bool(self._holders) and self._holders.is_one(id(function_of(task)))

    def _may_run(self, batch: Batch, task: Task, resume: Resume | None) -> bool:
        """Whether a task has all that it needs, one after the other; else its batch is parked."""
        return (
            self._has_place(batch, task, resume)
            and self._has_engine(batch, task, resume)
            and self._has_turn(batch, task, resume)
        )

    def _has_place(self, batch: Batch, task: Task, resume: Resume | None) -> bool:
        limit = task.options.concurrency
        if limit is None or self._is_granted(batch, task):  # then it has had that before
            return True
        return self._limits.take(batch, task, limit, *self._ways_on(batch, resume))

    def _has_engine(self, batch: Batch, task: Task, resume: Resume | None) -> bool:
        places = task.func.places if isinstance(task.func, TaskWrapper) else None
        if places is None:
            return True
        self._places_of[places.name] = places.number
        return self._engines.take(batch, task, places.name, *self._ways_on(batch, resume))

    def _ways_on(self, batch: Batch, resume: Resume | None) -> tuple[Resume, Resume]:
        """What a parked batch calls that has a place, and that a drain has given up on."""
        if resume is not None:
            return resume, resume
        return partial(self._resume, batch), partial(self._execution.finish, batch)

    def _is_granted(self, batch: Batch, task: Task | None) -> bool:
        """Whether a batch has waited, for this task, for what comes after its limit."""
        return self._engines.is_granted(batch, task) or self._lane.is_granted(batch, task)

    def _has_turn(self, batch: Batch, task: Task, resume: Resume | None) -> bool:
        if task.is_async or resume is not None or not self._is_holder(task):
            return True  # a driver with means of its own has no worker either
        # One of them runs at a time: behind others in the pool it would keep the rest of them.
        go_on = partial(self._to_worker, batch)
        end = partial(self._execution.finish, batch)
        return self._lane.take(batch, task, id(function_of(task)), go_on, end)

    def _enter(self, keyed: Keyed, was_first: bool = False) -> None:
        for loser in self._keys.enter(keyed, was_first):
            self._withdraw(loser, Loss.REPLACED)

    def _claim(self, keyed: Keyed) -> bool:
        if self._keys.claim(keyed):
            return True
        self._enter(keyed)  # what the batch's own tasks have added in a transaction is new
        if self._keys.claim(keyed):
            return True
        self._withdraw(keyed, self._keys.loss(keyed))  # unless somebody is just about to
        return False

    def _withdraw(self, keyed: Keyed, loss: Loss | None) -> bool:
        """Take a task that has lost out of its batch and tell of it; False if it was taken."""
        batch, events = keyed.batch, self._execution.events
        freed = batch.withdraw(keyed.task)
        self._keys.leave(keyed)
        if freed is None:
            return False
        self._execution.in_flight.free(freed)
        if loss is Loss.REPLACED:
            events.replaced(batch, keyed.task, _REPLACED.format(keyed.key))
        else:
            events.forgotten(batch, keyed.task, _FORGOTTEN.format(keyed.key))
        self._leave_behind(batch)
        return True

    def _leave_behind(self, batch: Batch) -> None:
        """A task was taken out of a batch: nothing may be left for which it waits."""
        carrier = batch.carrier
        if isinstance(carrier, Parked):
            if batch.first() is not carrier.task and carrier.leave_line():
                carrier.resume()
        elif not batch.waiting and self._take_from_timer(batch):
            self._execution.finish(batch)

    def _give_back(self, batch: Batch, task: Task | None) -> None:
        if self._is_granted(batch, task):
            return
        wanted = None if task is None else task.options.concurrency
        for go_on in (
            *self._limits.give_back(batch, wanted),
            *self._engines.give_back(batch),
            *self._lane.give_back(batch),
        ):
            go_on()


def _keyed(task: Task, batch: Batch) -> Keyed | None:
    options = task.options
    if options.key is None:
        return None
    return Keyed(options.key, task, batch, options.on_duplicate == "replace")


def _held(look: Look, holding: Sequence[Worker]) -> float:
    """The part of the time that others have left for which these held the interpreter's lock.

    One that was not there at the look before counts as if it did all the time.
    """
    times = scale(look) / look.seconds
    same = [worker for worker in holding if worker.is_same]
    held = sum(worker.burned for worker in same)
    with_lock = sum(worker.burned for worker in same if not worker.is_free)
    others = max(0.0, look.needed + look.elsewhere - with_lock)
    left = max(_LEFT, 1.0 - others * times)
    return len(holding) - len(same) + held * times / left
