"""The one thread of a process that uses a store."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from bgadapters.core import host
from bgadapters.core.model import guard
from bgadapters.core.model.errors import BackgroundTasksError, StoreUnavailableError
from bgadapters.core.outbox.receipt import Receipt
from bgadapters.core.outbox.store import Change, Row, Store

_LAZY = 0.05  # seconds that a change may wait for others
_IDLE = 5.0  # seconds without work after which the thread ends
_PATIENCE = 1.0  # seconds until changes are tried again that could not be written


class _Job:
    def __init__(self, rows: Sequence[Row], call: Callable[[], Any] | None = None) -> None:
        self.rows = rows
        self.call = call
        self.receipt = Receipt()


class Writer:
    """Does in its own thread what is asked of a store, in the order in which it is asked.

    Rows that several responses wait for are written in one transaction, so that they share what
    it costs to have it on the disk. Changes wait a moment for others, and for such rows.

    Args:
        store: an open store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._changes: list[Change] = []  # guarded by _lock
        self._is_running = False  # guarded by _lock
        self._has_failed = False

    def write(self, rows: Sequence[Row]) -> Receipt:
        """Have tasks kept."""
        return self._submit(_Job(rows))

    def call(self, function: Callable[[], Any]) -> Receipt:
        """Have a function called that uses the store."""
        return self._submit(_Job((), function))

    def change(self, change: Change) -> None:
        """Have a task changed, soon."""
        with self._lock:
            self._changes.append(change)
            self._start_locked()

    def flush(self) -> Receipt:
        """Have written now what waits."""
        return self._submit(_Job((), lambda: None))

    def _submit(self, job: _Job) -> Receipt:
        with self._lock:
            self._jobs.put(job)
            self._start_locked()
        return job.receipt

    def _start_locked(self) -> None:
        if self._is_running:
            return
        self._is_running = True
        thread = threading.Thread(target=self._run, name="bgadapters-store", daemon=True)
        try:
            host.start_thread(thread)
        except RuntimeError:
            self._is_running = False
            raise

    def _run(self) -> None:
        while True:
            jobs = self._next()
            if not jobs and self._may_end():
                return
            calls = [job for job in jobs if job.call is not None]
            self._write([job for job in jobs if job.call is None])
            for job in calls:
                _resolve(job, job.call or _nothing)

    def _next(self) -> list[_Job]:
        """Wait for jobs; return all that are there."""
        jobs: list[_Job] = []
        waits = _PATIENCE if self._has_failed else _LAZY
        try:
            jobs.append(self._jobs.get(timeout=waits if self._changes else _IDLE))
            while True:
                jobs.append(self._jobs.get_nowait())
        except Empty:
            return jobs

    def _may_end(self) -> bool:
        with self._lock:
            if self._jobs.empty() and not self._changes:
                self._is_running = False
                return True
            return False

    def _write(self, jobs: Sequence[_Job]) -> None:
        with self._lock:
            changes, self._changes = self._changes, []
        if not (jobs or changes):
            return
        try:
            lost = self._store.write([row for job in jobs for row in job.rows], changes)
        except BaseException as exc:
            with self._lock:
                self._changes[:0] = changes
            self._say_that_it_fails(exc, len(changes))
            for job in jobs:  # one by one: what is wrong with one need not be with the others
                if len(jobs) == 1 and not changes:
                    job.receipt.resolve(_unavailable(exc))
                else:
                    _resolve(job, lambda rows=job.rows: self._store.write(rows, ()))  # type: ignore[misc]
            return
        self._has_failed = False
        for job in jobs:
            job.receipt.resolve()
        if lost:
            guard.log(
                logging.WARNING,
                "%d durable task(s) have ended here and were taken over by another process "
                "meanwhile, which runs them again: %s",
                len(lost),
                ", ".join(lost[:20]),
            )

    def _say_that_it_fails(self, exception: BaseException, changes: int) -> None:
        if changes and not self._has_failed:
            self._has_failed = True
            guard.log(
                logging.WARNING,
                "What has become of %d durable task(s) cannot be written to their store, and is "
                "tried again: %s",
                changes,
                guard.text(lambda: str(exception), type(exception).__name__),
            )


def _nothing() -> None:
    return None


def _resolve(job: _Job, call: Callable[[], Any]) -> None:
    try:
        call()
    except BaseException as exc:
        job.receipt.resolve(_unavailable(exc))
    else:
        job.receipt.resolve()


def _unavailable(exception: BaseException) -> BaseException:
    if isinstance(exception, BackgroundTasksError):
        return exception
    error = StoreUnavailableError(f"the store of durable tasks has failed: {exception}")
    error.__cause__ = exception
    return error
