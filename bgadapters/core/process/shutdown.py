"""The end of a process: who has tasks in it, and how they get to finish.

An application is known here as `Drainable`, from its first task on.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from bgadapters.core import host
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model import guard, mode
from bgadapters.core.process import fork, signals


class Drainable(Protocol):
    """An application, as the end of its process sees it."""

    @property
    def drain_timeout(self) -> float:
        """The seconds that its tasks get."""
        ...

    def has_work(self) -> bool:
        """Whether tasks wait or run."""
        ...

    def drain(self, timeout: float | None = None) -> list[str]:
        """Wait for its tasks, then give up on the rest; return the names of that."""
        ...

    async def adrain(self, timeout: float | None = None) -> list[str]:
        """Do as `drain`, without blocking the event loop."""
        ...

    def drain_at_exit(self, timeout: float) -> list[str]:
        """Do as `drain`, where nobody else runs the loops that have stopped."""
        ...

    def close(self) -> None:
        """The process ends, and its tasks have."""
        ...

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent's threads."""
        ...


_lock = threading.RLock()
_applications: WeakSet[Drainable] = WeakSet()  # those that ever ran a task; guarded by _lock
_is_hooked = False  # guarded by _lock
_process = 0  # the one that ran them: a signal may reach a forked child before it forgets


def drain(timeout: float | None = None) -> list[str]:
    """Wait until every released task of this process has finished, then give up on the rest.

    For the end of scripts, tests, and servers' own shutdown hooks. What is added
    later runs as ever.

    Args:
        timeout: seconds, for all together. Default: each application's ``drain_timeout``.

    Returns:
        The names of the tasks that were abandoned; they were logged at WARNING.

    Raises:
        RuntimeError: called where an event loop is running, which it would block
            (there, ``await adrain()``), or by a task, which it would wait for itself.
    """
    if loop_runs_here():
        raise RuntimeError("drain() would block the running event loop; use 'await adrain()'")
    started, elapsed = time.monotonic(), 0.0
    abandoned = []
    for application in applications():
        abandoned += application.drain(remaining(application, timeout, elapsed))
        elapsed = time.monotonic() - started
    return abandoned


async def adrain(timeout: float | None = None) -> list[str]:
    """Do as `drain`, without blocking the event loop."""
    started, elapsed = time.monotonic(), 0.0
    abandoned = []
    for application in applications():
        abandoned += await application.adrain(remaining(application, timeout, elapsed))
        elapsed = time.monotonic() - started
    return abandoned


def has_pending_work() -> bool:
    """Whether this process has run tasks, so that it may have more of them to run.

    It has none while a test runs: a signal should end all of them.
    """
    return bool(_applications) and _process == os.getpid() and mode.active.drains_on_signals


def register(application: Drainable) -> None:
    """Have an application drained when the process ends, and emptied in forked children."""
    global _process
    if application in _applications:
        return
    with _lock:
        _applications.add(application)
        _process = os.getpid()
        _hook_once()


def applications() -> list[Drainable]:
    """Return the applications that have run tasks in this process."""
    with _lock:
        return list(_applications)


def remaining(application: Drainable, timeout: float | None, elapsed: float) -> float:
    """Return the seconds that are left to an application when others were waited for so long.

    The first one has all of its time, to the digit: the log says how much it was.
    """
    total = application.drain_timeout if timeout is None else timeout
    return max(0.0, total - elapsed)


def _hook_once() -> None:
    global _is_hooked
    if _is_hooked:
        return
    _is_hooked = True
    fork.reset_in_child(__name__, _reset_after_fork, fork.APPLICATIONS)
    atexit.register(_close)  # after what is registered later
    atexit.register(_at_last_exit)
    with suppress(RuntimeError):  # the main thread is over, and a server goes on in another
        _hook_threading()


def _hook_threading() -> None:
    """Have threading call the hook at the end of the main thread, before it waits for others.

    atexit comes too late for tasks that use a thread pool of their own (asyncio.to_thread,
    asgiref's sync_to_async): concurrent.futures closes its pools when threading shuts down.
    Its hook is called before ours unless it was registered first: hence the import.

    Raises:
        RuntimeError: the main thread is over.
    """
    import concurrent.futures.thread  # noqa: F401  # pyright: ignore[reportUnusedImport]

    hook = getattr(threading, "_register_atexit", None)
    if hook is not None:
        hook(_at_exit)


def _at_exit() -> None:
    """Drain, before Python waits for threads."""
    _drain_all()
    signals.leave_threads_behind()


def _at_last_exit() -> None:
    """Drain after that: there may be more tasks by then.

    What was given up the first time is not among them.
    """
    signals.leave_no_more()
    _drain_all()


def _drain_all() -> None:
    if host.hides_forks():
        fork.notice()
    signals.mark_shutdown()
    waited_for = [each for each in applications() if each.has_work()]
    if waited_for:
        with signals.ending_at_once():
            _drain_at_exit(waited_for)


def _close() -> None:
    """Nothing runs any more but threads that nobody waits for."""
    for application in applications():
        guard.call(application.close, doing="Closing the store of durable tasks")


def _drain_at_exit(waited_for: Iterable[Drainable]) -> None:
    started, elapsed = time.monotonic(), 0.0
    for each in waited_for:
        try:
            each.drain_at_exit(remaining(each, None, elapsed))
        except BaseException as exc:
            message = "Waiting for the background tasks of one application has failed"
            guard.log(logging.ERROR, message, exc_info=exc)
        elapsed = time.monotonic() - started


def _reset_after_fork() -> None:
    """Its parent's threads are not in the child, and its parent's tasks are not the child's."""
    global _lock
    _lock = threading.RLock()
    for application in list(_applications):
        application.reset_after_fork()
    _applications.clear()
