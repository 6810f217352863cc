"""Runs the sync tasks of a batch: in worker threads, or in the thread that is here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from bgadapters.core import host
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.lock_watch import LockWatch
from bgadapters.core.drivers.pool import Pool
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.task import Task, is_awaitable

FIRST = 101
"""A priority above those that a task can have."""


class ThreadDriver:
    """Runs batches in worker threads, each up to its next async task.

    Args:
        execution: the application.
        pool: its workers.
        watch: knows what is in them.
    """

    def __init__(self, execution: Execution, pool: Pool, watch: LockWatch) -> None:
        self._execution = execution
        self._pool = pool
        self._watch = watch

    def start(self, batch: Batch, goes_first: bool = False) -> bool:
        """Have a worker take the batch; False where there is none.

        Args:
            batch: the batch.
            goes_first: whether it goes before all that wait for a worker, whatever its priority.
        """
        priority = FIRST if goes_first else batch.priority
        return self._pool.submit(lambda: self._run_in_worker(batch), priority)

    def _run_in_worker(self, batch: Batch) -> None:
        clock = self._watch.enter(batch)
        try:
            self.run(batch)
        finally:
            self._watch.leave(clock)

    def run(self, batch: Batch) -> None:
        """Run the batch in this thread, up to its next async task; have that go on elsewhere."""
        execution = self._execution
        try:
            while True:
                if not run_sync_tasks(batch, execution):
                    return
                if batch.awaited is not None or batch.waiting:
                    execution.to_loop(batch)
                    return
                if execution.finish(batch):
                    return
        except BaseException as exc:
            execution.break_off(batch, exc)
            if host.raised_by_signal(exc):
                raise


def run_sync_tasks(
    batch: Batch, execution: Execution, resume: Callable[[], object] | None = None
) -> bool:
    """Run the sync tasks at the head of a batch, up to the first that needs a loop.

    That is an async task, which stays at the head, or a sync one that has returned an awaitable,
    which is left in ``batch.awaited``.

    Args:
        batch: the batch.
        execution: the application.
        resume: has the batch go on if it has to wait. Default: as the scheduler does.

    Returns:
        False if the batch has to wait, so that it is the caller's no longer.
    """
    if batch.awaited is not None:
        return True
    scope = execution.hooks.scope
    is_heard = execution.events.has_listeners()
    while batch.waiting:
        task = execution.turns.take(batch, False, resume) if batch.is_checked else batch.take(False)
        if not task:
            return task is None
        if task.context.run(_run, batch, task, execution, scope, is_heard):
            return True
        batch.running = None
    return True


def _run(
    batch: Batch,
    task: Task,
    execution: Execution,
    scope: Callable[[], AbstractContextManager[Any]] | None,
    is_heard: bool,
) -> bool:
    """Run one task, in its own context: so is what is told of it.

    Tell whether it has returned an awaitable, so that it has not ended.
    """
    owner.set(batch)
    if is_heard:
        execution.events.started(batch, task)
    try:
        if scope is None:
            result = task.call()
        else:
            with scope():
                result = task.call()
        if result is not None and is_awaitable(result):
            batch.awaited = result
            return True
    except BaseException as exc:
        if host.raised_by_signal(exc):  # where no thread can be had this is the server's own
            execution.events.interrupted(batch, task, exc)
            raise
        # SystemExit, KeyboardInterrupt and CancelledError too: a task that raises them fails by
        # itself, and never takes a worker, a server or its successors with it.
        execution.settle(batch, task, exc)
        return False
    if is_heard:
        execution.events.succeeded(batch, task)
    return False
