"""How a process that ends lets its tasks finish."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from bgadapters.core import rehearsal, signals

if TYPE_CHECKING:
    from bgadapters.core.runtime import Runtime

logger = logging.getLogger("bgadapters")

_lock = threading.Lock()
_runtimes: WeakSet[Runtime] = WeakSet()  # those that ever ran a task; guarded by _lock
_hooked = False  # guarded by _lock
_process = 0  # the one that ran them: a signal may reach a forked child before it forgets
_given_up = False  # written at exit alone


def drain(timeout: float | None = None) -> list[str]:
    """Wait until every released task of this process has finished, then give up on the rest.

    For the end of scripts, tests, and servers' own shutdown hooks. What is added
    later runs as ever.

    Args:
        timeout: seconds, for all together. Default: each application's ``drain_timeout``.

    Returns:
        The names of the tasks that were abandoned; they were logged at WARNING.

    Raises:
        RuntimeError: called where an event loop is running, which it would block.
            There, ``await adrain()``.
    """
    from bgadapters.core.runtime import loop_runs_here

    if loop_runs_here():
        raise RuntimeError("drain() would block the running event loop; use 'await adrain()'")
    started = time.monotonic()
    abandoned = []
    for runtime in watched():
        abandoned += runtime.drain(remaining(runtime, timeout, started))
    return abandoned


async def adrain(timeout: float | None = None) -> list[str]:
    """Do as `drain`, without blocking the event loop."""
    started = time.monotonic()
    abandoned = []
    for runtime in watched():
        abandoned += await runtime.adrain(remaining(runtime, timeout, started))
    return abandoned


def is_at_stake() -> bool:
    """Whether this process has run tasks, so that it may have more of them to run.

    Nothing is while a test runs: a signal should end all of them.
    """
    return bool(_runtimes) and _process == os.getpid() and rehearsal.audience is None


def watch(runtime: Runtime) -> None:
    """Have this runtime drained when the process ends, and emptied in forked children."""
    global _process
    if runtime in _runtimes:
        return
    with _lock:
        _runtimes.add(runtime)
        _process = os.getpid()
        _hook_once()


def watched() -> list[Runtime]:
    """The runtimes that have run tasks in this process."""
    with _lock:
        return list(_runtimes)


def remaining(runtime: Runtime, timeout: float | None, started: float) -> float:
    """The seconds that are left to a runtime of a drain which began at ``started``."""
    total = runtime.settings.drain_timeout if timeout is None else timeout
    return max(0.0, total - (time.monotonic() - started))


def _hook_once() -> None:
    global _hooked
    if _hooked:
        return
    _hooked = True
    os.register_at_fork(after_in_child=_forget)
    atexit.register(_at_exit)
    # atexit comes too late for tasks that use a thread pool of their own (asyncio.to_thread,
    # asgiref's sync_to_async): concurrent.futures closes its pools when threading shuts down.
    # Its hook is called before ours unless it was registered first: hence the import.
    import concurrent.futures.thread  # noqa: F401

    register = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_at_exit)


def _at_exit() -> None:
    """Drain; called once or twice, and what was given up the first time is not waited for again."""
    global _given_up
    signals.note_the_end()
    waited_for = [] if _given_up else [r for r in watched() if r.backlog.live()]
    if waited_for:
        signals.end_at_once_from_now_on()
    started = time.monotonic()
    for runtime in waited_for:
        try:
            _given_up |= bool(runtime.drain_at_exit(remaining(runtime, None, started)))
        except Exception:
            logger.exception("Waiting for the background tasks of one application has failed")


def _forget() -> None:
    """In a forked child: its parent's threads are not here, and its parent's tasks not its own."""
    global _lock
    _lock = threading.Lock()
    for runtime in list(_runtimes):
        runtime.forget()
    _runtimes.clear()
