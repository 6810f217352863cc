"""Whether there is room for a task, or for the tasks of a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from bgadapters.core import host
from bgadapters.core.app.later import Later
from bgadapters.core.app.notices import Notices
from bgadapters.core.control.turns import Turns
from bgadapters.core.drivers.in_flight import InFlight
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner, task_running_here
from bgadapters.core.model.errors import QueueFullError
from bgadapters.core.model.options import DEFAULT_OPTIONS, LOCAL
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.settings import Settings
from bgadapters.core.model.task import Task
from bgadapters.core.process import fork


class Admission:
    """Admits tasks to batches, and keeps waiting who brings more than there is room for.

    Args:
        settings: those of the application.
        in_flight: what waits and runs.
        later: what waits for a time.
        turns: what checked batches are told of.
        notices: says where waiting is of no use.
    """

    def __init__(
        self, settings: Settings, in_flight: InFlight, later: Later, turns: Turns, notices: Notices
    ) -> None:
        self._limit = settings.max_pending
        self._rejects = settings.on_full == "reject"
        self._in_flight = in_flight
        self._later = later
        self._turns = turns
        self._notices = notices
        self._may_miss_forks = host.hides_forks()

    def admit(self, batch: Batch, task: Task, preconditions: Iterable[Precondition]) -> None:
        """Put a task into a batch, if there is room for it.

        Raises:
            QueueClosedError: the batch was released or closed.
            QueueFullError: there is no room.
        """
        options = task.options
        if options is not DEFAULT_OPTIONS and (
            options.key or options.concurrency or options.engine != LOCAL
        ):
            batch.is_checked = True  # before its driver may see the task
        if task.is_sent:
            batch.sorts = True
        is_own = owner.get() is batch
        if batch.is_live:
            self._admit_live(batch, task)
        elif task.leaves_order:
            self._admit_apart(batch, task, preconditions)
        elif not (is_own or self._rejects):  # as nearly always
            batch.add(task, preconditions)
        else:
            taken = self._take_capacity(task)
            self._add(batch, task, preconditions, taken, self._limit if is_own else None)

    def retract(self, batch: Batch, task: Task) -> None:
        """Take a task out of a batch to which it was just admitted, unless it runs already."""
        freed = batch.withdraw(task)
        if freed is not None:
            self._in_flight.free(freed)
            if batch.is_checked:
                self._turns.lose(batch, [task])

    def admitted(self, batch: Batch, task: Task) -> None:
        """Have the key of a task count that was admitted to a batch which runs, once that is told.

        With another one's key it may end here.
        """
        if batch.is_checked and batch.is_running:
            self._turns.begin(batch, [task])

    def batch_for(self, batch: Batch, task: Task) -> Batch:
        """Return what a task is to be put into that is added to a batch.

        One that leaves the order gets a batch of its own when its response is complete. Where
        tasks start as they are added it needs one now, to be released by whoever has added it.

        Raises:
            TypeError: the task is for a response that fails, and no response comes of the batch.
        """
        if batch.is_live and task.options.run_on == "error":
            raise TypeError(
                f"cannot add {task.name} with run_on='error': the tasks of a connection start as "
                "they are added, and no response comes of it that could fail."
            )
        if not task.leaves_order:
            return batch
        if not (batch.is_live or (batch.is_running and owner.get() is batch)):
            return batch
        return batch.alike()

    def _admit_apart(self, batch: Batch, task: Task, preconditions: Iterable[Precondition]) -> None:
        if self._may_miss_forks:
            fork.notice()
        taken = 0
        if task.is_delayed:  # before it is time it takes no capacity
            self._refuse_if_too_many_wait(task)
        elif self._rejects:
            taken = self._take_or_refuse(task)
        try:
            batch.add_apart(task, preconditions, taken)
        except BaseException:
            self._in_flight.free(taken)
            raise

    def _add(
        self,
        batch: Batch,
        task: Task,
        preconditions: Iterable[Precondition],
        taken: int,
        own_limit: int | None,
    ) -> None:
        """Put a task into a batch, or give back the capacity that was taken for it."""
        try:
            batch.add(task, preconditions, taken, own_limit)
        except BaseException:
            self._in_flight.free(taken)
            raise
        if batch.is_abandoned:  # what runs on there was told of, but what is added was not
            self._in_flight.hold(batch)
            self.leave_unless_unfinished(batch)

    def _admit_live(self, batch: Batch, task: Task) -> None:
        """Put a task into a batch whose tasks start as they are added, at most so many of them.

        Raises:
            QueueFullError: there is no room.
        """
        if len(batch) >= self._limit:
            raise QueueFullError(
                f"cannot add {task.name}: {self._limit} tasks of this connection wait already "
                "(max_pending). Add fewer for each message, or raise max_pending or max_workers."
            )
        taken = self._take_capacity(task)
        self._add(batch, task, (), taken, None)

    async def await_capacity_for_one(self) -> None:
        """Wait without blocking until one more task would have room, unless a full one rejects."""
        if self._in_flight.is_full and not self._rejects and loop_runs_here():
            await self._await(self._has_capacity_for_one)

    def _has_capacity_for_one(self, callback: Callable[[], object]) -> bool:
        if not self._in_flight.try_reserve(1, callback):
            return False
        self._in_flight.free(1)
        return True

    def _take_capacity(self, task: Task) -> int:
        if self._may_miss_forks:
            fork.notice()
        if not self._rejects:
            self._in_flight.reserve(1)
            return 1
        return self._take_or_refuse(task)

    def _refuse_if_too_many_wait(self, task: Task) -> None:
        if self._later.is_full:
            raise QueueFullError(
                f"cannot add {task.name}: {self._limit} tasks wait for a later time already "
                "(max_pending)."
            )

    def _take_or_refuse(self, task: Task) -> int:
        if not self._in_flight.try_reserve(1):
            raise QueueFullError(
                f"cannot add {task.name}: {self._limit} tasks wait or run already (max_pending). "
                "Answer 503, or raise max_pending or max_workers."
            )
        return 1

    def wait_for_capacity(self, batch: Batch) -> None:
        """Wait in this thread until there is capacity for a batch, as long as tasks finish."""
        if task_running_here() is None and not self.try_reserve(batch):
            self._wait(partial(self.try_reserve, batch))
        self._reserve(batch)

    async def await_capacity(self, batch: Batch) -> None:
        """Do as `wait_for_capacity`, without blocking the event loop."""
        await self._await(partial(self.try_reserve, batch))
        self._reserve(batch)

    def _wait(self, condition: Callable[[], bool]) -> None:
        if not self._in_flight.wait_for(condition):
            self._notices.nothing_finishes()

    async def _await(self, ask: Callable[[Callable[[], object]], bool]) -> None:
        """Wait for capacity, unless a task does: it holds what it would wait for."""
        if task_running_here() is None:
            from bgadapters.core.drivers.waiting import wait_for_capacity

            if not await wait_for_capacity(ask, self._in_flight):
                self._notices.nothing_finishes()

    def _reserve(self, batch: Batch) -> None:
        """Take the capacity that a batch lacks, whether or not it is free."""
        missing = batch.lacking()
        if missing > 0:
            self._in_flight.reserve(missing)
            batch.reserve(missing)

    def try_reserve(self, batch: Batch, callback: Callable[[], object] | None = None) -> bool:
        """Take the capacity that a batch lacks if it is free. Else call back when some is."""
        missing = batch.lacking()
        if missing <= 0:
            return True
        if not self._in_flight.try_reserve(missing, callback):
            return False
        batch.reserve(missing)
        return True

    def hold_up(self, batch: Batch) -> None:
        """Keep the thread that has released a batch while there is no room: it brings no more."""

        def may_go() -> bool:
            return not (batch.is_running and self._in_flight.is_overfull)

        # A server may watch the thread in which it was started, and kill a process in which that
        # one is not heard of for long.
        if threading.current_thread() is threading.main_thread():
            self._in_flight.wait_for_one(may_go)
        else:
            self._wait(may_go)

    def leave_unless_unfinished(self, batch: Batch) -> None:
        """Cross a batch off that is not in flight any more."""
        if not (batch.is_held or batch.is_running):
            self._in_flight.leave(batch, 0)
