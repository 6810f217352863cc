"""Runs whole batches on the running loop, sync tasks in the thread that waits for the loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bgadapters.core.drivers.async_runner import run_async_tasks
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.threads import run_sync_tasks
from bgadapters.core.model.batch import Batch


async def run_bridged(
    batch: Batch, execution: Execution, to_async: Callable[..., Callable[..., Awaitable[Any]]]
) -> None:
    """Run a batch until nothing waits in it.

    Args:
        batch: the batch.
        execution: the application.
        to_async: makes a function one to be awaited, run in the thread that waits for the loop.
    """
    while len(batch) or batch.awaited is not None:
        await run_async_tasks(batch, execution)
        await to_async(run_sync_tasks)(batch, execution)
