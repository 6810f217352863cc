"""Says from time to time that a process lives, for stores whose owners have leases."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bgadapters.core import host
from bgadapters.core.model import guard
from bgadapters.core.model.events import brief

_PATIENCE = 2.0  # seconds that the end of it waits for a call that is being made


class Renewal:
    """Calls a function in a thread of its own every so many seconds, until it is stopped.

    What the function raises is said once, until it has succeeded again.

    Args:
        renew: the function. It may block.
        seconds: how long to wait before each call.
    """

    def __init__(self, renew: Callable[[], object], seconds: float) -> None:
        self._renew = renew
        self._seconds = seconds
        self._has_failed = False
        self._is_started = False
        self._ended = host.real_lock()  # free when it is to end
        self._over = host.real_lock()  # free when it has ended

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: no thread can be started.
        """
        self._ended.acquire()
        self._over.acquire()
        host.start_real_thread(self._run, "bgadapters-lease")
        self._is_started = True

    def stop(self) -> None:
        """Call it no more; wait a moment for a call that is being made."""
        if self._is_started:
            self._is_started = False
            self._ended.release()
            self._over.acquire(timeout=_PATIENCE)

    def _run(self) -> None:
        while not self._ended.acquire(timeout=self._seconds):
            self.renew()
        self._over.release()

    def renew(self) -> None:
        """Call it now. Does not raise."""
        try:
            self._renew()
        except Exception as exc:
            self._say_that_it_fails(exc)
        else:
            self._has_failed = False

    def _say_that_it_fails(self, exception: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            guard.log(
                logging.WARNING,
                "The store of durable tasks cannot be told that this process lives. If that goes "
                "on, other processes will run its tasks: %s",
                brief(exception),
            )
