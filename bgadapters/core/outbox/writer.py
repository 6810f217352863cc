"""Who uses a store: one thread of the process at a time, and nearly always the same."""

from __future__ import annotations

import _thread
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from bgadapters.core import host
from bgadapters.core.model import guard
from bgadapters.core.model.errors import BackgroundTasksError, StoreUnavailableError
from bgadapters.core.model.events import brief
from bgadapters.core.outbox.receipt import DONE, Receipt, done_with
from bgadapters.core.outbox.store import Change, Row, Store

_LAZY = 0.05  # seconds that a change may wait for others
_PATIENCE = 1.0  # seconds until changes are tried again that could not be written
_CLOSED = "the store of durable tasks was closed, as the process ends"


class _Rows(NamedTuple):
    """Tasks to be kept."""

    rows: Sequence[Row]
    receipt: Receipt


class _Call(NamedTuple):
    """Something else to be done with the store."""

    function: Callable[[], object]
    receipt: Receipt
    needs_store: bool = True


class _Changes(NamedTuple):
    """Changes that were asked for before something else, which is to follow them."""

    changes: Sequence[Change]


_Order = _Rows | _Call | _Changes


class Writer:
    """Does in a thread of its own what is asked of a store, in the order in which it is asked.

    Two threads that wake each other cost more than a transaction. So a thread that waits for its
    rows anyway writes them itself, if the store admits that and nobody uses it. Whoever comes
    meanwhile, and changes, are for the thread: no response waits for the changes of others.

    Rows that several responses wait for are written in one transaction, so that they share what
    it costs to have it on the disk. Changes wait a moment for others, and no response waits for
    them. The store is opened by the same thread before the first of all that, so that nobody waits
    for it who need not.

    Changes that cannot be written are tried again. There are never more of them than tasks in
    memory, once for each attempt.

    Args:
        store: a store that is not open.

    Attributes:
        is_used: whether it was asked for anything, and not closed since.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = _thread.RLock()  # as that of `Batch`
        self._orders: deque[_Order] = deque()  # for which somebody waits; guarded by _lock
        self._changes: deque[Change] = deque()  # guarded by _lock
        self._due: float | None = None  # when these are to be written; guarded by _lock
        self.is_used = False  # whether there is a thread; guarded by _lock
        self._is_closed = False  # guarded by _lock
        self._news = host.real_lock()  # free when there are orders
        self._news.acquire()
        self._turn = host.real_lock()  # whoever has it uses the store
        # Of whoever has the turn:
        self._is_open = False
        self._has_failed = False

    @property
    def is_open(self) -> bool:
        """Whether the store was opened, and not closed since."""
        return self._is_open

    # From any thread. None of these waits for the store, but `write` may.

    def write(self, rows: Sequence[Row], waits: bool = False) -> Receipt:
        """Have tasks kept.

        Args:
            rows: the tasks.
            waits: whether this thread waits for it next, and may as well do it.

        Returns:
            The receipt for it; `DONE` if they were written meanwhile.
        """
        written = self._written_here(rows) if waits else None
        if written is not None:
            return written
        order = _Rows(rows, Receipt())
        self._submit(order)
        return order.receipt

    def call(self, function: Callable[[], object], needs_store: bool = True) -> Receipt:
        """Have a function called that uses the store, which is open then if it needs that."""
        order = _Call(function, Receipt(), needs_store)
        self._submit(order)
        return order.receipt

    def flush(self) -> Receipt:
        """Have written now what waits."""
        return self.call(_nothing)

    def change(self, change: Change) -> None:
        """Have a task changed, soon."""
        with self._lock:
            self._changes.append(change)
            if self._due is None:  # else the thread knows, and to wake it costs
                self._due = monotonic() + _LAZY
                self._tell_news()
            is_running = self.is_used or self._runs_locked()
        if not is_running:
            self._begin()

    def close(self) -> Receipt:
        """Have what waits written, then the store closed. What comes later is refused."""
        return self.call(self._close, needs_store=False)

    def _written_here(self, rows: Sequence[Row]) -> Receipt | None:
        """Write tasks in this thread; None if it may not, or another one uses the store."""
        if not (self._store.is_for_any_thread and host.may_block()):
            return None
        if self._orders:  # others wait already, for what the thread does next
            return None
        if not self._turn.acquire(blocking=False):
            return None
        try:
            if not self._is_open:
                return None
            self._store_all(rows, ())
        except BaseException as exc:
            return done_with(_unavailable(exc))
        finally:
            self._turn.release()
        return DONE

    def _submit(self, order: _Rows | _Call) -> None:
        """Have the thread do something at once."""
        with self._lock:
            if isinstance(order, _Call) and self._changes:
                self._orders.append(_Changes(self._taken_changes_locked()))
            self._orders.append(order)
            self._tell_news()
            is_running = self._runs_locked()
        if not is_running:
            self._begin()

    def _runs_locked(self) -> bool:
        """Return whether there is a thread; if not, one is about to be started."""
        was_running, self.is_used = self.is_used, not self._is_closed or self.is_used
        return was_running

    def _begin(self) -> None:
        """There was no thread: start it, or refuse what it would."""
        if self._is_closed:  # where the interpreter ends, a new thread would never begin
            self._refuse_all(StoreUnavailableError(_CLOSED))
        else:
            self._start()

    def _tell_news(self) -> None:
        with suppress(RuntimeError):  # it is free already
            self._news.release()

    def _start(self) -> None:
        try:
            host.start_real_thread(self._run, "bgadapters-store")
        except RuntimeError as exc:
            with self._lock:
                self.is_used = False
            self._refuse_all(StoreUnavailableError(f"the store of durable tasks is away: {exc}"))

    def _refuse_all(self, exception: BackgroundTasksError) -> None:
        changes: list[Change] = []
        for order in self._taken(all_of_it=True):
            if isinstance(order, _Changes):
                changes += order.changes
            else:
                order.receipt.resolve(_like(exception))
        if changes:
            guard.log(
                logging.WARNING,
                "%d durable task(s) have ended, and their store was not told, so that they may run "
                "again: %s. Their ids: %s",
                len(changes),
                exception,
                _listed([change.id for change in changes]),
            )

    def _taken(self, all_of_it: bool = False) -> Sequence[_Order]:
        """Take orders, and after them the changes if it is time for these.

        Both at one moment: what was asked for before a change is among the orders, or was done.
        """
        with self._lock:
            orders, self._orders = self._orders, deque()
            is_time = self._due is not None and self._due <= monotonic()
            if self._changes and (is_time or all_of_it):
                orders.append(_Changes(self._taken_changes_locked()))
            return orders

    def _taken_changes_locked(self) -> Sequence[Change]:
        changes, self._changes, self._due = self._changes, deque(), None
        return changes

    # In its thread.

    def _run(self) -> None:
        while not self._is_closed:
            self._wait()
            with self._turn:
                self._work()
        with self._lock:
            self.is_used = False
        self._refuse_all(StoreUnavailableError(_CLOSED))

    def _wait(self) -> None:
        """Wait until somebody waits for something, or it is time for changes."""
        while not self._orders:
            due = self._due
            if due is None:
                self._news.acquire()
            elif not self._news.acquire(timeout=max(0.0, due - monotonic())):
                return

    def _work(self) -> None:
        together: list[_Rows] = []
        for order in self._taken():
            if isinstance(order, _Rows):
                together.append(order)
                continue
            self._write(together)
            together = []
            if isinstance(order, _Changes):
                self._change(order.changes)
            else:
                self._resolve(order.receipt, order.function, order.needs_store)
        self._write(together)

    def _write(self, orders: Sequence[_Rows]) -> None:
        """Write in one transaction; where something is wrong with one of them, each in its own."""
        if len(orders) == 1:
            self._write_alone(orders[0])
        elif orders:
            try:
                self._store_all([row for order in orders for row in order.rows], ())
            except BackgroundTasksError as exc:
                for order in orders:
                    order.receipt.resolve(_like(exc))
            except BaseException:
                for order in orders:
                    self._write_alone(order)
            else:
                for order in orders:
                    order.receipt.resolve()

    def _change(self, changes: Sequence[Change]) -> None:
        """Do as `_write` with changes."""
        try:
            self._store_all((), changes)
        except BackgroundTasksError as exc:
            self._try_again(changes, exc)
        except BaseException as exc:
            if len(changes) > 1:
                for each in changes:
                    self._change((each,))
            else:
                guard.log(
                    logging.ERROR,
                    "What has become of a durable task cannot be written to its store (%r)",
                    changes[0],
                    exc_info=exc,
                )
        else:
            self._has_failed = False

    def _try_again(self, changes: Sequence[Change], exception: BackgroundTasksError) -> None:
        """The store is away, and nobody else knows of these."""
        with self._lock:
            self._changes.extendleft(reversed(changes))
            self._due = monotonic() + _PATIENCE
        if not (self._has_failed or self._is_closed):  # then another word is said of them
            guard.log(
                logging.WARNING,
                "What has become of %d durable task(s) cannot be written to their store, and "
                "is tried again: %s",
                len(changes),
                brief(exception),
            )
        self._has_failed = True

    # In whatever thread has the turn.

    def _write_alone(self, order: _Rows) -> None:
        try:
            self._store_all(order.rows, ())
        except BaseException as exc:
            order.receipt.resolve(_unavailable(exc))
        else:
            order.receipt.resolve()

    def _store_all(self, rows: Sequence[Row], changes: Sequence[Change]) -> None:
        self._open()
        lost = self._store.write(rows, changes)
        if lost:
            guard.log(
                logging.WARNING,
                "%d durable task(s) have ended here and were taken over by another process "
                "meanwhile, which runs them again: %s",
                len(lost),
                _listed(lost),
            )

    def _resolve(self, receipt: Receipt, function: Callable[[], object], needs_store: bool) -> None:
        try:
            if needs_store:
                self._open()
            function()
        except BaseException as exc:
            receipt.resolve(_unavailable(exc))
        else:
            receipt.resolve()

    def _open(self) -> None:
        if self._is_closed:
            raise StoreUnavailableError(_CLOSED)
        if not self._is_open:
            try:
                self._store.open(os.urandom(8).hex())
            except BackgroundTasksError:
                raise
            except BaseException as exc:
                raise _unavailable(exc) from exc
            self._is_open = True

    def _close(self) -> None:
        with self._lock:
            self._is_closed = True
        if self._is_open:
            self._is_open = False
            self._store.close()


def _nothing() -> None:
    return None


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:20])


def _unavailable(exception: BaseException) -> BackgroundTasksError:
    if isinstance(exception, BackgroundTasksError):
        return exception
    error = StoreUnavailableError(f"the store of durable tasks has failed: {brief(exception)}")
    error.__cause__ = exception
    return error


def _like(exception: BackgroundTasksError) -> BackgroundTasksError:
    """Return such an exception for one of those who wait: each raises and handles its own."""
    error = type(exception)(*exception.args)
    error.__cause__ = exception.__cause__
    return error
