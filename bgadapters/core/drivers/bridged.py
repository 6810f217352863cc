"""Runs whole batches on the running loop, sync tasks in the thread that waits for the loop."""

from __future__ import annotations

import asyncio
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
    loop, carrier, may_go_on = asyncio.get_running_loop(), batch.carrier, asyncio.Event()

    def resume() -> None:
        loop.call_soon_threadsafe(may_go_on.set)

    while len(batch) or batch.awaited is not None:
        is_ours = await run_async_tasks(batch, execution, resume)
        if is_ours and await to_async(run_sync_tasks)(batch, execution, resume):
            continue
        await may_go_on.wait()
        may_go_on.clear()
        batch.carrier = carrier
