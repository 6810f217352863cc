"""Runs whole batches in the thread that is here: where no other can be had, and in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import finalize

from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.threads import run_sync_tasks
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.late import import_whole

if TYPE_CHECKING:
    import asyncio

_ASYNC_RUNNER = "bgadapters.core.drivers.async_runner"


class InlineDriver:
    """Runs batches to their end in the calling thread, async tasks on an *inline loop*.

    The inline loop runs only while a batch needs it. Batches take turns, since a loop runs in one
    thread at a time, and a client that is bound to it can be kept between tasks.

    Args:
        execution: the application.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start without a loop: at first, and in a forked child."""
        self._turn = threading.RLock()
        self._is_in_use = False  # guarded by _turn
        self._loop: asyncio.AbstractEventLoop | None = None  # guarded by _turn

    def run(self, batch: Batch, to_sync: Callable[..., Callable[..., Any]] | None = None) -> None:
        """Run a batch to its end.

        Args:
            batch: the batch.
            to_sync: makes a coroutine function one that blocks. Default: the inline loop does.
        """
        execution = self._execution
        resume = partial(self.run, batch, to_sync)
        while not execution.finish(batch):
            if not run_sync_tasks(batch, execution, resume):
                return
            needs_loop = batch.awaited is not None or batch.waiting
            if needs_loop and not self._run_async(batch, to_sync, resume):
                return

    def _run_async(
        self,
        batch: Batch,
        to_sync: Callable[..., Callable[..., Any]] | None,
        resume: Callable[[], object],
    ) -> bool:
        """Run the async tasks at the head of a batch; as `run_sync_tasks`."""
        if to_sync is not None:
            import_whole(_ASYNC_RUNNER)
            from bgadapters.core.drivers.async_runner import run_async_tasks

            is_ours: bool = to_sync(run_async_tasks)(batch, self._execution, resume)
            return is_ours
        # The task that is having its turn may be waiting for what is done here.
        has_turn = self._turn.acquire(blocking=owner.get() is None)
        is_ours = has_turn and not self._is_in_use  # else a signal handler has come in between
        try:
            import_whole(_ASYNC_RUNNER)
            from bgadapters.core.drivers.async_runner import run_async_tasks

            self._is_in_use |= is_ours
            loop = self._own_loop() if is_ours else _new_loop()
            running = run_async_tasks(batch, self._execution, resume)
            is_still_here = loop.run_until_complete(running)
            if not is_ours:
                loop.close()
            return is_still_here
        except OSError as exc:  # no file descriptor is left for a loop
            self._execution.fail_next(batch, exc)
            return True
        finally:
            if is_ours:
                self._is_in_use = False
            if has_turn:
                self._turn.release()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            self._loop = _new_loop()
            finalize(self, self._loop.close)
        return self._loop


def _new_loop() -> asyncio.AbstractEventLoop:
    import_whole("asyncio")
    import asyncio

    # A loop keeps the context in which it was made: that of no request.
    return Context().run(asyncio.new_event_loop)
