"""The durable tasks of one application: they are kept in its store until they have run."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.middleware import captured_by
from bgadapters.core.model.options import TaskOptions
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.task import EnqueueCall, Task, TaskWrapper
from bgadapters.core.outbox.confirm import say_what_was_not_kept
from bgadapters.core.outbox.durable import DurableCall, Kept, TakenOverError
from bgadapters.core.outbox.payload import check_may_be_stored, dumped, options_to_store
from bgadapters.core.outbox.receipt import Receipt
from bgadapters.core.outbox.recovery import Recovery
from bgadapters.core.outbox.store import Change, Row, Store
from bgadapters.core.outbox.urls import store_of
from bgadapters.core.outbox.writer import Writer
from bgadapters.core.process import shutdown


class Outbox:
    """Keeps the durable tasks of one application.

    The store is opened when the first task comes, or a server starts, in the process that serves.

    Args:
        runtime: the application.

    Raises:
        SettingsError: the setting ``store`` names none.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = threading.RLock()
        self.modules: Sequence[str] = runtime.settings.task_modules
        self.store: Store = store_of(runtime.settings.store)
        self._writer: Writer | None = None  # once it is open; guarded by _lock
        self._kept_here: set[str] = set()  # ids of tasks on their way into their batch
        self._recovery = Recovery(runtime, self)

    # What `add_task` asks.

    def call_for(self, func: Any) -> DurableCall:
        """Return what is to be called for a function.

        Raises:
            NotPortableError: it may not be called out of a store.
            TypeError: it is a task object of another framework.
        """
        if isinstance(func, (EnqueueCall, TaskWrapper)):
            raise TypeError(
                f"add_task() with durable=True accepts a function, not {func!r}: a task object is "
                "kept by its own framework, once it is enqueued"
            )
        check_may_be_stored(func, self.modules)
        return DurableCall(func, self)

    def feature(self, is_recovered: bool = False) -> Kept:
        """Return what a task has beside its options."""
        return Kept(self, is_recovered)

    def row_for(self, task: Task, batch: Batch, given: TaskOptions) -> Row:
        """Return the row of a task that is being added, written if a transaction is open here.

        Raises:
            StoreUnavailableError: the store refuses it there.
            NotPortableError: its arguments are none that can be kept.
            TypeError: one of the options that were given is none that can be kept.
        """
        options, record = task.options, batch.recorded(task)
        due = task.due()
        carry = self._runtime.hooks.carry
        row = Row(
            id=record.id,
            queue_id=batch.id,
            position=batch.position,
            added=time.time(),
            payload=dumped(
                task.unwrap(),
                options=options_to_store(given.given),
                captured=captured_by(getattr(task, "uncontrolled", task)),
                carried=None if carry is None else carry(),
                method=batch.method,
                path=batch.path,
            ),
            name=task.name,
            key=options.key,
            priority=options.priority,
            due=None if due is None else time.time() + due - time.monotonic(),
        )
        if self.store.shares_transaction(options.session):
            self._open()
            self.store.insert_here([row], options.session)
            self._kept_here.add(row.id)
        return row

    def preconditions(self, batch: Batch, session: Any) -> Sequence[Precondition]:
        """Return what a task waits for that was written in a session's transaction."""
        found = self.store.precondition(batch, session)
        return () if found is None else (found,)

    def keep(self, batch: Batch, task: Task, row: Row) -> None:
        """Have a task kept that was added, before its response begins; or soon if none does."""
        if row.id in self._kept_here:
            self._kept_here.discard(row.id)
        elif batch.is_live or not batch.confirm_with(task, self, row):
            self.confirm([row]).tell(say_what_was_not_kept)

    # What is done in the writer's thread.

    def confirm(self, rows: Sequence[Row]) -> Receipt:
        """Have tasks kept, before a response begins."""
        return self._open().write(rows)

    def change(self, change: Change) -> None:
        """Have a row changed, soon. What goes wrong is logged."""
        try:
            self._open().change(change)
        except Exception as exc:
            guard.log(logging.ERROR, "The row of a durable task is not up to date", exc_info=exc)

    def begin(self, task_id: str) -> Receipt:
        """Note that a recovered task begins."""

        def begin() -> None:
            if not self.store.begin(task_id):
                raise TakenOverError(f"another process has taken over the durable task {task_id}")

        return self._open().call(begin)

    def take_over(self, limit: int) -> list[Row]:
        """Take what no living process has. Waits for it."""
        found: list[Row] = []
        self._open().call(lambda: found.extend(self.store.take_over(limit))).wait()
        return found

    # Its life.

    def serve(self) -> None:
        """This process serves: run what others have left behind, now and from time to time."""
        self._recovery.start()

    def check(self) -> None:
        """Open the store, to see whether it can be.

        Raises:
            StoreUnavailableError: it cannot.
            SettingsError: it is of a newer version.
        """
        self._open().flush().wait()

    def settle(self, timeout: float) -> None:
        """A drain has ended: write what waits to be written, within so many seconds."""
        writer = self._writer
        if writer is not None:
            writer.flush().wait_at_most(timeout)

    async def asettle(self, timeout: float) -> None:
        """Do as `settle`, without blocking the event loop."""
        from bgadapters.core.drivers.waiting import wait_until, within

        writer = self._writer
        if writer is not None:
            await within(timeout, wait_until(writer.flush().is_done))

    def close(self, timeout: float) -> None:
        """The process ends: what is left is free, within so many seconds."""
        self._recovery.stop()
        with self._lock:
            writer, self._writer = self._writer, None
        if writer is not None:
            writer.call(self.store.close).wait_at_most(timeout)

    def reset_after_fork(self) -> None:
        """In a forked child: it is an owner of its own, with connections of its own."""
        self._lock = threading.RLock()
        self._writer = None
        self.store.forget_connections()
        self.store = store_of(self._runtime.settings.store)
        self._recovery = Recovery(self._runtime, self)

    def _open(self) -> Writer:
        writer = self._writer
        if writer is not None:
            return writer
        with self._lock:
            if self._writer is None:
                owner = os.urandom(8).hex()
                writer = Writer(self.store)
                opened = writer.call(lambda: self.store.open(owner))
                opened.wait()
                shutdown.register(self._runtime)
                self._writer = writer
            return self._writer


def outbox_of(runtime: Runtime) -> Outbox:
    """Return the outbox of an application that has a store."""
    outbox = runtime.outbox
    if not isinstance(outbox, Outbox):
        outbox = runtime.outbox = Outbox(runtime)
    return outbox
