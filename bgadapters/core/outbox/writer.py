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
from bgadapters.core.outbox.receipt import Receipt
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


_Order = _Rows | _Call | Change


class Writer:
    """Does in a thread of its own what is asked of a store, in the order in which it is asked.

    Two threads that wake each other cost more than a transaction. So a thread that waits for its
    rows anyway writes them itself, if the store admits that and nobody uses it. Whoever comes
    meanwhile, and changes, are for the thread: no response waits for the changes of others.

    Rows that several responses wait for are written in one transaction, so that they share what
    it costs to have it on the disk. Changes wait a moment for others, and for such rows. The store
    is opened by the same thread before the first of all that, so that nobody waits for it who need
    not.

    Changes that cannot be written are tried again. There are never more of them than tasks in
    memory, once for each attempt.

    Args:
        store: a store that is not open.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = _thread.RLock()  # as that of `Batch`
        self._orders: deque[_Order] = deque()  # guarded by _lock
        self._is_urgent = False  # whether somebody waits for one of them; guarded by _lock
        self._is_told = False  # whether the thread knows that there are some; guarded by _lock
        self._is_running = False  # guarded by _lock
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

    @property
    def is_used(self) -> bool:
        """Whether it was asked for anything, and not closed since."""
        return self._is_running

    # From any thread. None of these waits for the store, but `write` may.

    def write(self, rows: Sequence[Row], waits: bool = False) -> Receipt:
        """Have tasks kept.

        Args:
            rows: the tasks.
            waits: whether this thread waits for it next, and may as well do it.
        """
        order = _Rows(rows, Receipt())
        if not (waits and self._writes_here(order)):
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
        self._submit(change, is_urgent=False)

    def close(self) -> Receipt:
        """Have what waits written, then the store closed. What comes later is refused."""
        return self.call(self._close, needs_store=False)

    def _writes_here(self, order: _Rows) -> bool:
        """Write tasks in this thread; False if it may not, or another one uses the store."""
        if not (self._store.is_for_any_thread and host.may_block()):
            return False
        if self._is_urgent:  # others wait already, for what the thread does next
            return False
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if self._is_open:
                self._write_alone(order)
            return self._is_open
        finally:
            self._turn.release()

    def _submit(self, order: _Order, is_urgent: bool = True) -> None:
        """Have the thread do something: at once, or soon."""
        with self._lock:
            self._orders.append(order)
            is_over = self._is_closed and not self._is_running
            starts = not (self._is_running or is_over)
            self._is_running = not is_over
            if is_urgent or not self._is_told:  # else it knows, and to wake it costs
                self._is_told = True
                self._is_urgent = self._is_urgent or is_urgent
                self._tell_news()
        if starts:
            self._start()
        elif is_over:  # here: where the interpreter ends, a new thread would never begin
            self._refuse_all(StoreUnavailableError(_CLOSED))

    def _tell_news(self) -> None:
        with suppress(RuntimeError):  # it is free already
            self._news.release()

    def _start(self) -> None:
        try:
            host.start_real_thread(self._run, "bgadapters-store")
        except RuntimeError as exc:
            with self._lock:
                self._is_running = False
            self._refuse_all(StoreUnavailableError(f"the store of durable tasks is away: {exc}"))

    def _refuse_all(self, exception: BackgroundTasksError) -> None:
        changes = []
        for order in self._taken():
            if isinstance(order, Change):
                changes.append(order)
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

    def _taken(self) -> deque[_Order]:
        with self._lock:
            orders, self._orders = self._orders, deque()
            self._is_urgent = self._is_told = False
            return orders

    # In its thread.

    def _run(self) -> None:
        while not self._is_closed:
            self._news.acquire()
            self._wait_for_others()
            with self._turn:
                self._work()
        with self._lock:
            self._is_running = False
        self._refuse_all(StoreUnavailableError(_CLOSED))

    def _wait_for_others(self) -> None:
        """Changes alone are in no hurry."""
        deadline = monotonic() + (_PATIENCE if self._has_failed else _LAZY)
        while not self._is_urgent:
            if not self._news.acquire(timeout=max(0.0, deadline - monotonic())):
                return

    def _work(self) -> None:
        together: list[_Rows | Change] = []
        for order in self._taken():
            if isinstance(order, _Call):
                self._write(together)
                together = []
                self._resolve(order.receipt, order.function, order.needs_store)
            else:
                together.append(order)
        self._write(together)

    def _write(self, orders: Sequence[_Rows | Change]) -> None:
        """Write in one transaction; where something is wrong with one of them, each in its own."""
        if len(orders) == 1:
            self._write_alone(orders[0])
        elif orders:
            rows = [row for order in orders if isinstance(order, _Rows) for row in order.rows]
            changes = [order for order in orders if isinstance(order, Change)]
            try:
                self._store_rows(rows, changes)
            except BackgroundTasksError as exc:
                self._fail(orders, exc)
            except BaseException:
                for order in orders:
                    self._write_alone(order)
            else:
                self._succeed(orders)

    # In whatever thread has the turn.

    def _write_alone(self, order: _Rows | Change) -> None:
        try:
            if isinstance(order, Change):
                self._store_rows((), (order,))
            else:
                self._store_rows(order.rows, ())
        except BackgroundTasksError as exc:
            self._fail((order,), exc)
        except BaseException as exc:
            if isinstance(order, Change):
                guard.log(
                    logging.ERROR,
                    "What has become of a durable task cannot be written to its store (%r)",
                    order,
                    exc_info=exc,
                )
            else:
                order.receipt.resolve(_unavailable(exc))
        else:
            self._succeed((order,))

    def _store_rows(self, rows: Sequence[Row], changes: Sequence[Change]) -> None:
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

    def _succeed(self, orders: Sequence[_Rows | Change]) -> None:
        self._has_failed = False
        for order in orders:
            if isinstance(order, _Rows):
                order.receipt.resolve()

    def _fail(self, orders: Sequence[_Rows | Change], exception: BackgroundTasksError) -> None:
        """The store is away: changes are tried again, for nobody else knows of them."""
        changes = [order for order in orders if isinstance(order, Change)]
        if changes:
            with self._lock:
                self._orders.extendleft(reversed(changes))
                self._is_told = True
                self._tell_news()
            if not (self._has_failed or self._is_closed):  # then another word is said of them
                guard.log(
                    logging.WARNING,
                    "What has become of %d durable task(s) cannot be written to their store, and "
                    "is tried again: %s",
                    len(changes),
                    brief(exception),
                )
            self._has_failed = True
        for order in orders:
            if isinstance(order, _Rows):
                order.receipt.resolve(_like(exception))

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
