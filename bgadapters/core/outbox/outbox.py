"""The durable tasks of one application: they are kept in its store until they have run."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from bgadapters.core import host
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.carried import carried_with
from bgadapters.core.model.control import NotToRun
from bgadapters.core.model.errors import StoreUnavailableError
from bgadapters.core.model.events import brief
from bgadapters.core.model.middleware import captured_by
from bgadapters.core.model.options import Options, TaskOptions
from bgadapters.core.model.payload import (
    STORED,
    check_may_be_called,
    dumped,
    joined,
    options_to_pack,
)
from bgadapters.core.model.portable import packed_arguments
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import Task
from bgadapters.core.outbox.durable import HasRow, Kept, KeptTask, take_row
from bgadapters.core.outbox.receipt import DONE, Receipt
from bgadapters.core.outbox.recovery import Recovery
from bgadapters.core.outbox.store import Change, Row, Store, writes_in_transactions
from bgadapters.core.outbox.urls import store_of
from bgadapters.core.outbox.usual import UsualTasks
from bgadapters.core.outbox.writer import Writer
from bgadapters.core.process import fork, shutdown


class Outbox:
    """Keeps the durable tasks of one application.

    Its store is opened by the writer's thread in the process that serves, when the first task
    comes or a server starts. Nothing is done before that: an application may be made in one
    process and serve in those that are forked from it.

    Args:
        runtime: the application.

    Attributes:
        modules: the setting ``task_modules``.
        store: where they are kept.

    Raises:
        SettingsError: the setting ``store`` names none.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.modules: Sequence[str] = runtime.settings.task_modules
        self._usual = UsualTasks(self.modules)
        self._may_miss_forks = host.hides_forks()
        self._begin()

    def _begin(self) -> None:
        self.store: Store = store_of(self._runtime.settings.store)
        self._is_alone = not writes_in_transactions(self.store)
        self._writer = Writer(self.store)
        self._recovery = Recovery(self._runtime, self)

    # What `add_task` asks.

    def kept(self, func: Any) -> Kept:
        """Return what a task of a function has beside its options.

        Raises:
            NotPortableError: it may not be called out of a store.
            StoreUnavailableError: this server runs no threads.
            TypeError: it is a task object of another framework.
        """
        check_may_be_called(func, self.modules, STORED)
        _check_threads()
        return Kept(self)

    def usual_task(
        self,
        batch: Batch,
        call: tuple[Any, tuple[Any, ...], dict[str, Any]],
        given: TaskOptions,
        options: Options,
        is_async: bool,
    ) -> KeptTask | None:
        """Return a task that is about to be added, with its row; None if more is asked of it.

        Args:
            batch: the one that it is added to.
            call: the function, its positional arguments and its keyword arguments.
            given: the options that were given at the call.
            options: all of its options.
            is_async: whether it belongs on an event loop.

        Raises:
            NotPortableError: it cannot be kept.
            StoreUnavailableError: this server runs no threads.
        """
        runtime, (func, args, kwargs) = self._runtime, call
        usual = self._usual.of(func, options, given) if self._is_alone else None
        if usual is None or runtime.middlewares is not None or runtime.preconditions is not None:
            return None
        _check_threads()
        record = Record(batch, time.monotonic())
        said = packed_arguments(func, args, kwargs, STORED.option) if args or kwargs else {}
        if carried := carried_with(runtime.hooks):
            said["carried"] = carried
        context = runtime.task_context()
        task = KeptTask(self, (func, args, kwargs or None), context, options, is_async, record)
        row = Row(
            record.id,
            batch.id,
            batch.place_of(task),
            time.time(),
            joined(usual.beginning, said, batch.method, batch.path),
            usual.name,
        )
        task.row = (row,)
        return task

    def row(self, task: Task, batch: Batch, given: TaskOptions) -> Row:
        """Return the row of a task that is about to be added.

        Raises:
            NotPortableError: its arguments are none that can be kept.
            TypeError: one of the options that were given is none that can be kept.
        """
        options, now, due = task.options, time.time(), None
        if task.is_delayed:
            due = now + (task.due() or 0.0) - time.monotonic()
        beside: dict[str, Any] = {}
        if stored := options_to_pack(given.given):
            beside["options"] = stored
        if self._runtime.middlewares is not None:
            beside["captured"] = captured_by(getattr(task, "uncontrolled", task))
        if carried := carried_with(self._runtime.hooks):
            beside["carried"] = carried
        return Row(
            (task.record or batch.recorded(task)).id,
            batch.id,
            batch.place_of(task),
            now,
            dumped(task.unwrap(), method=batch.method, path=batch.path, **beside),
            task.name,
            options.key,
            options.priority,
            due,
        )

    def shares_transaction(self, options: Options, session: Any) -> bool:
        """Whether a transaction is open here in which a row is to be written.

        Args:
            options: those of the task.
            session: the one whose transaction that is; None if none was given.

        Raises:
            TypeError: the store knows no such session.
        """
        return is_for_commit(options) and self.store.shares_transaction(session)

    def preconditions(self, batch: Batch, session: Any) -> Sequence[Precondition]:
        """Return what a task waits for that was written in a session's transaction."""
        found = self.store.precondition(batch, session)
        return () if found is None else (found,)

    def keep_here(self, kept: HasRow, session: Any) -> None:
        """Have a task kept that was added, in the transaction that is open here.

        Raises:
            StoreUnavailableError: the store refuses it.
        """
        if not self._here().is_open:
            self._here().flush().wait()
        self.store.insert_here(take_row(kept), session)
        kept.has_row = True

    def keep(self, kept: HasRow) -> None:
        """Have a task kept that was added, soon."""
        self.confirm([kept]).tell(say_what_was_not_kept)

    # What is done in the writer's thread.

    def confirm(self, items: Sequence[HasRow], waits: bool = False) -> Receipt:
        """Have tasks kept.

        Args:
            items: what the tasks have beside their options.
            waits: whether this thread waits for it next.
        """

        def have_no_row(_: BaseException) -> None:
            for each in items:
                each.has_row = False

        rows: list[Row] = []
        for each in items:
            rows += take_row(each)
            each.has_row = True
        receipt = self._here().write(rows, waits)
        if receipt is not DONE:
            for each in items:
                each.receipt = receipt
            receipt.tell(have_no_row)
        return receipt

    def change(self, change: Change) -> None:
        """Have a row changed, soon."""
        self._here().change(change)

    def begin(self, task_id: str) -> Receipt:
        """Note that a task begins which others may have; it fails with `NotToRun`."""

        def begin() -> None:
            if self.store.begin(task_id):
                return
            if self.store.get(task_id) is None:
                raise NotToRun("replaced", "another task with its key has taken its place")
            raise NotToRun("abandoned", "another process has taken it over and runs it")

        return self._here().call(begin)

    def take_over(self, limit: int) -> list[Row]:
        """Take what no living process has. Waits for it."""
        found: list[Row] = []
        self._here().call(lambda: found.extend(self.store.take_over(limit))).wait()
        return found

    # Its life.

    @property
    def serves(self) -> bool:
        """Whether it looks for what others have left behind."""
        return self._recovery.has_started

    def serve(self, loop: Any) -> None:
        """This process serves: run what others have left behind, now and from time to time.

        Args:
            loop: the event loop that serves; None if none does.
        """
        self._recovery.start(loop)

    def check_store(self) -> None:
        """Open the store, to see whether it can be.

        Raises:
            StoreUnavailableError: it cannot.
            SettingsError: it is of a newer version.
        """
        self._here().flush().wait()

    def settle(self, timeout: float) -> None:
        """A drain has ended: write what waits to be written, within so many seconds."""
        if self._writer.is_used:
            self._writer.flush().wait_at_most(timeout)

    async def asettle(self, timeout: float) -> None:
        """Do as `settle`, without blocking the event loop."""
        from bgadapters.core.drivers.waiting import wait_until, within

        if self._writer.is_used:
            await within(timeout, wait_until(self._writer.flush().is_done))

    def close(self, timeout: float) -> None:
        """The process ends: what is left is free, within so many seconds."""
        self._recovery.stop()
        if self._writer.is_used:
            self._writer.close().wait_at_most(timeout)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child: what is open belongs to the parent, and so do its tasks."""
        self.store.forget_connections()
        self._begin()

    def _here(self) -> Writer:
        """The writer of this process, which is to end with it."""
        if self._may_miss_forks:
            fork.notice()
        if not self._writer.is_used:
            shutdown.register(self._runtime)
        return self._writer


def outbox_of(runtime: Runtime) -> Outbox:
    """Return the outbox of an application that has a store."""
    return runtime.kept_by(Outbox)


def _check_threads() -> None:
    if not host.has_threads():
        raise StoreUnavailableError(
            f"durable tasks need a thread, and none runs here. {host.HOW_TO_HAVE_THREADS}"
        )


def is_for_commit(options: Options) -> bool:
    """Whether a task runs only if its transaction commits; else its row is not to be part of that.

    A rollback would take the row of a task that runs all the same.
    """
    return options.on_commit and options.run_on == "success"


def say_what_was_not_kept(exception: BaseException) -> None:
    """Tell of durable tasks that could not be kept, though no response waited for it."""
    guard.log(
        logging.ERROR,
        "Durable tasks could not be kept, and run in this process alone: %s",
        brief(exception),
    )
