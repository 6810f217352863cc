"""What is promised to whoever waits for something that another thread does."""

from __future__ import annotations

import _thread
from collections.abc import Callable

from bgadapters.core import host
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model import guard
from bgadapters.core.model.errors import StoreUnavailableError


class Receipt:
    """Something that another thread does, and whether it has been done."""

    def __init__(self) -> None:
        self._lock = _thread.RLock()  # as that of `Batch`
        self._callbacks: list[Callable[[], object]] = []  # guarded by _lock
        self._is_done = False  # guarded by _lock; once it is, it stays
        self._exception: BaseException | None = None

    def resolve(self, exception: BaseException | None = None) -> None:
        """It was done, or has failed."""
        with self._lock:
            self._exception = exception
            self._is_done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:  # a loop of gevent's may be gone by now
            guard.call(callback, doing="Telling that a durable task is kept")

    def is_done(self, callback: Callable[[], object]) -> bool:
        """Whether it is; if not, ``callback`` is called once it is, in the other thread."""
        with self._lock:
            if not self._is_done:
                self._callbacks.append(callback)
            return self._is_done

    @property
    def has_succeeded(self) -> bool:
        """Whether it was done, and well."""
        return self._is_done and self._exception is None  # which is set before

    def tell(self, hear: Callable[[BaseException], object]) -> None:
        """Have a function called with what it fails with, if it does."""

        def done() -> None:
            if self._exception is not None:
                hear(self._exception)

        if self.is_done(done):
            done()

    def wait(self) -> None:
        """Wait in this thread.

        Raises:
            BaseException: what it has failed with.
        """
        if not self._is_done:  # it may be as soon as this was asked, and to wait for nothing costs
            host.wait_for_thread(self.is_done)
        self._check()

    def wait_at_most(self, seconds: float) -> None:
        """Wait in this thread, not for ever; what it has failed with is not raised."""
        host.wait_for_thread(self.is_done, seconds)

    async def received(self) -> None:
        """Do as `wait`, without blocking the event loop. Cancelling it stops nothing.

        Raises:
            StoreUnavailableError: the event loop is not asyncio's.
        """
        if not loop_runs_here():
            raise StoreUnavailableError(
                "durable tasks are waited for by asyncio, and no event loop of asyncio is running "
                "here; trio is not supported"
            )
        from bgadapters.core.drivers.waiting import wait_until

        await wait_until(self.is_done)
        self._check()

    def _check(self) -> None:
        if self._exception is not None:
            raise self._exception


def done_with(exception: BaseException | None = None) -> Receipt:
    """Return a receipt for what was done, or has failed, already."""
    receipt = Receipt()
    receipt.resolve(exception)
    return receipt


DONE = done_with()
"""The receipt for what was done before it could be asked for."""
