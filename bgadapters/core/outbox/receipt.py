"""What is promised to whoever waits for something that another thread does."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable


class Receipt:
    """Something that another thread does, and whether it has been done."""

    def __init__(self) -> None:
        self._lock = _thread.RLock()
        self._callbacks: list[Callable[[], object]] = []  # guarded by _lock
        self._is_done = False  # guarded by _lock
        self._exception: BaseException | None = None

    def resolve(self, exception: BaseException | None = None) -> None:
        """It was done, or has failed."""
        with self._lock:
            self._exception = exception
            self._is_done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def is_done(self, callback: Callable[[], object]) -> bool:
        """Whether it is; if not, ``callback`` is called once it is, in the other thread."""
        with self._lock:
            if not self._is_done:
                self._callbacks.append(callback)
            return self._is_done

    def tell(self, hear: Callable[[BaseException], object]) -> None:
        """Have a function called with what it fails with, if it does."""

        def done() -> None:
            if self._exception is not None:
                hear(self._exception)

        if self.is_done(done):
            done()

    def check(self) -> None:
        """Raise what it has failed with."""
        if self._exception is not None:
            raise self._exception

    def wait(self) -> None:
        """Wait in this thread; raise what it has failed with."""
        done = threading.Event()
        if not self.is_done(done.set):
            done.wait()
        self.check()

    def wait_at_most(self, seconds: float) -> None:
        """Wait in this thread, not for ever; what it has failed with is not raised."""
        done = threading.Event()
        if not self.is_done(done.set):
            done.wait(seconds)

    async def received(self) -> None:
        """Do as `wait`, without blocking the event loop. Cancelling it stops nothing."""
        from bgadapters.core.drivers.waiting import wait_until

        await wait_until(self.is_done)
        self.check()
