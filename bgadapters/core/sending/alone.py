"""Makes the call of a task for another process, which does all the rest for it."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from contextvars import Context
from typing import Any

from bgadapters.core.app.rebuilt import Elsewhere
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.carried import restore
from bgadapters.core.model.context import owner
from bgadapters.core.model.hooks import FrameworkHooks
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.options import DEFAULT_OPTIONS, TaskOptions
from bgadapters.core.model.payload import StoredCall, loaded
from bgadapters.core.model.record import KnownRecord
from bgadapters.core.model.task import Task, examined, is_awaitable, made
from bgadapters.core.sending.entered import entered_there


def run_alone(hooks: FrameworkHooks, payload: str, attempt: int) -> None:
    """Call the function of a task, in the scope of the framework. Nothing is told of it here.

    Args:
        hooks: those of the framework, complete.
        payload: that of the message. It is trusted: any function may be called.
        attempt: which attempt this is, from 1.

    Raises:
        BaseException: what the function raises, or why it cannot be called.
    """
    said = json.loads(payload)
    call = loaded(payload, (said["f"].partition(":")[0],))
    task = _task(hooks, call, said, attempt)
    batch = Batch(call.path, method=call.method)
    batch.add(task)
    batch.release(lambda: None)
    batch.take(task.is_async)
    try:
        task.context.run(_call, batch, task, hooks)
    finally:
        batch.finish()


def _task(hooks: FrameworkHooks, call: StoredCall, said: Any, attempt: int) -> Task:
    marked, options = marked_options(call.func), DEFAULT_OPTIONS
    if marked is not None:
        options = marked.over(options)
    options = TaskOptions.parsed(None, call.options, "a message").over(options)
    context = Context()
    context.run(restore, hooks, call.carried or {})
    func, is_async = examined(call.func)
    task = made(func, call.args, call.kwargs or None, context, options, is_async)
    origin = Elsewhere(said["queue"], call.method, call.path)
    added = time.monotonic() - max(0.0, time.time() - said["added"])
    record = task.record = KnownRecord(origin, added, said["id"], attempt)
    return entered_there(task, record, call.captured or ())


def _call(batch: Batch, task: Task, hooks: FrameworkHooks) -> None:
    owner.set(batch)
    result = None
    if not task.is_async:
        with (hooks.scope or nullcontext)():
            result = task.call()
        if not is_awaitable(result):
            return
    import asyncio

    asyncio.run(_acall(task, result, hooks))


async def _acall(task: Task, result: Any, hooks: FrameworkHooks) -> None:
    async with (hooks.ascope or nullcontext)():
        if result is None:
            result = task.call()
        while is_awaitable(result):
            result = await result
