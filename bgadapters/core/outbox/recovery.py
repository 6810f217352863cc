"""Runs what processes that have ended have left behind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from bgadapters.core import host
from bgadapters.core.app.control import controlled
from bgadapters.core.app.rebuilt import Known, options_of, rebuilt
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import guard, mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.control import Feature
from bgadapters.core.model.errors import QueueFullError
from bgadapters.core.model.events import brief
from bgadapters.core.model.options import LOCAL, Options, TaskOptions
from bgadapters.core.model.payload import loaded
from bgadapters.core.model.task import Task, examined
from bgadapters.core.outbox.durable import Keeps, Kept, failure_of
from bgadapters.core.outbox.store import Change, Row

INTERVAL = 2.0
"""Seconds after which a process that serves looks for what others have left behind."""
MAX_CRASHES = 3
"""So many processes may end while they run a task; then it is kept as failed."""
GRACE = 600.0
"""Seconds since it was added for which a task waits for a process that has its function.

While a new version is rolled out, processes of both find each other's tasks.
"""
PUT_OFF = 5.0
"""Seconds until such a task may be taken over again, by whoever comes first."""
_NAMES = 100  # so many functions are named that are not here, once each


class Source(Keeps, Protocol):
    """Where tasks are taken from."""

    modules: Sequence[str]

    def take_over(self, limit: int) -> list[Row]:
        """Take what no living process has."""
        ...


class _Found(NamedTuple):
    path: str | None
    method: str | None
    task: Task
    features: Sequence[Feature]


class Recovery:
    """Looks from time to time for tasks that no living process has, and runs them.

    Args:
        runtime: the application that runs them.
        source: where they are.

    Attributes:
        has_started: whether it does so.
    """

    def __init__(self, runtime: Runtime, source: Source) -> None:
        self._runtime = runtime
        self._source = source
        self._ended = threading.Event()
        self.has_started = False
        self._has_failed = False
        self._is_prepared = False
        self._loop: Any = None
        self._missing: set[str] = set()  # names of tasks that were put off

    def start(self, loop: Any = None) -> None:
        """Begin, the first time.

        Args:
            loop: the event loop that serves, for async tasks. Default: none does.
        """
        if self.has_started or mode.active is not mode.SERVING or not host.has_threads():
            return
        self.has_started = True
        self._loop = loop
        thread = threading.Thread(target=self._look, name="bgadapters-recovery", daemon=True)
        try:
            host.start_thread(thread)
        except RuntimeError as exc:  # no more threads; the next request tries again
            self.has_started = False
            self._say_that_it_fails(exc)

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    def _look(self) -> None:
        while not self._ended.is_set():
            guard.call(self.recover, doing="Recovering durable tasks")
            self._ended.wait(INTERVAL)

    def recover(self) -> None:
        """Look once: run what there is room for."""
        while not (self._ended.is_set() or self._runtime.is_ending):
            limit = self._runtime.room
            if limit <= 0:
                return
            try:
                self._prepare()
                rows = self._source.take_over(limit)
            except Exception as exc:
                self._say_that_it_fails(exc)
                return
            self._has_failed = False
            if not rows:
                return
            if sum(map(self.run, queues_of(rows))) < len(rows):  # some had no room here, after all
                return

    def _prepare(self) -> None:
        prepare = self._runtime.hooks.before_recovery
        if not self._is_prepared and prepare is not None:
            prepare()
        self._is_prepared = True

    def run(self, rows: Sequence[Row]) -> int:
        """Have tasks run one after the other, in their order.

        What comes behind one that is put off is put off as well.

        Returns:
            How many of them were dealt with: what there was no room for is free again.
        """
        put_off: set[str] = set()  # the ids of queues
        later = time.time() + PUT_OFF
        scheduler, events = self._runtime.scheduler, self._runtime.events
        batch = Batch(on_lost=scheduler.on_lost)
        batch.origin_loop = self._loop
        for number, row in enumerate(rows):
            found = None if row.queue_id in put_off else self._found(row, batch, put_off)
            if row.queue_id in put_off:
                self._source.change(Change(row.id, "again", row.attempt, due=later))
                self._source.change(Change(row.id, "free"))
            if found is None:
                continue
            batch.path, batch.method, task, features = found
            made = controlled(task, batch, scheduler, features)
            try:
                scheduler.admission.admit(batch, made, ())
            except QueueFullError:
                for each in rows[number:]:
                    self._source.change(Change(each.id, "free"))
                scheduler.release(batch)
                return number
            made.context.copy().run(events.recovered, batch, made)
        scheduler.release(batch)
        return len(rows)

    def _found(self, row: Row, batch: Batch, put_off: set[str]) -> _Found | None:
        """Return the task of a row; None if it cannot be run, which its row then says.

        Args:
            row: the row.
            batch: what the task is to be put into.
            put_off: gets the id of its queue, if another process may be able to run it.
        """
        if row.crashes >= MAX_CRASHES:
            self._fail(row, None, f"{row.crashes} processes have ended while they ran it")
            return None
        try:
            return self._made(row, batch)
        except BaseException as exc:  # SystemExit too: modules of the application are imported
            if time.time() - row.added < GRACE:
                put_off.add(row.queue_id)
                self._say_that_it_is_put_off(row, exc)
            else:
                self._fail(row, exc, brief(exc))
            return None

    def _made(self, row: Row, batch: Batch) -> _Found:
        call = loaded(row.payload, self._source.modules)
        options = _options(row, options_of(self._runtime, call))
        known = Known(row.id, row.queue_id, row.added, row.attempt)
        what = func, is_async = examined(call.func)
        kept = Kept(self._source, is_recovered=True)
        if options.engine == LOCAL:
            task = rebuilt(self._runtime, batch, call, known, options, what)
            return _Found(call.path, call.method, task, [kept])
        from bgadapters.core.sending.sending import Sending

        given = TaskOptions.parsed(None, call.options, "a stored task")
        sending = Sending(self._runtime, given, options, func, is_async)
        what = sending.func, sending.is_async
        task = rebuilt(self._runtime, batch, call, known, sending.options, what)
        features = [kept, *sending.features(kept)]
        sending.prepare(batch, task)
        return _Found(call.path, call.method, task, features)

    def _fail(self, row: Row, exception: BaseException | None, reason: str) -> None:
        self._source.change(
            Change(row.id, "fail", row.attempt, failure=failure_of(exception, reason))
        )
        guard.log(
            logging.ERROR,
            "Background task %s of the store cannot be run, and is kept there as failed: %s",
            row.name,
            reason,
        )

    def _say_that_it_is_put_off(self, row: Row, exception: BaseException) -> None:
        if row.name not in self._missing and len(self._missing) < _NAMES:
            self._missing.add(row.name)
            guard.log(
                logging.WARNING,
                "Background task %s of the store cannot be run by this process. It is left to "
                "others, and kept as failed if none has run it %d minutes after it was added: %s",
                row.name,
                GRACE // 60,
                brief(exception),
            )

    def _say_that_it_fails(self, exception: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            guard.log(
                logging.WARNING,
                "The store of durable tasks cannot be asked for what was left behind: %s",
                brief(exception),
            )


def queues_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Return what is to run one after the other: the tasks of one response.

    The responses whose tasks were met by a crash are one queue: one of these tasks may have caused
    it, and those that ran beside it are not to be given up with it.
    """
    met = {row.queue_id for row in rows if row.crashes}
    suspects = [row for row in rows if row.queue_id in met]
    others = (row for row in rows if row.queue_id not in met)
    queues = [list(group) for _, group in groupby(others, key=lambda row: row.queue_id)]
    return [suspects, *queues] if suspects else queues


def _options(row: Row, options: Options) -> Options:
    return options._replace(
        always=False,
        run_on="success",
        delay=0.0,
        run_after=None,  # it is due, and with those that have no time it stays in their order
        key=row.key,
        priority=row.priority,
        durable=True,
    )
