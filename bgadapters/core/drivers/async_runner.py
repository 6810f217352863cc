"""Runs async tasks one after the other on the running loop, each as an asyncio task of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from contextvars import Context
from inspect import isawaitable
from types import CoroutineType, FrameType
from typing import Any, TypeVar

from bgadapters.core import host
from bgadapters.core.drivers.base import Execution
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.task import Task, forgo

T = TypeVar("T")

_CAN_BEGIN_AT_ONCE = sys.version_info >= (3, 12)

_set_owner = owner.set  # bound once: Python would bind it anew for each task


def new_task(
    task_type: Callable[..., T],
    steps: Coroutine[Any, Any, None],
    loop: asyncio.AbstractEventLoop,
    context: Context | None,
    at_once: bool,
) -> T:
    """Make an asyncio task; if ``at_once``, and Python can, with its first step taken already."""
    return (
        task_type(steps, loop=loop, context=context, eager_start=at_once)
        if _CAN_BEGIN_AT_ONCE
        else task_type(steps, loop=loop, context=context)
    )


async def run_async_tasks(
    batch: Batch,
    execution: Execution,
    resume: Callable[[], object] | None = None,
    task_type: type[asyncio.Task[None]] = asyncio.Task,
    on_suspended: Callable[[Any], object] | None = None,
    *,
    begun: asyncio.Task[None] | None = None,
) -> bool:
    """Run the async tasks at the head of a batch, up to the first sync one, which stays there.

    Each has an asyncio task of its own, in its own context: what it does to
    ``asyncio.current_task()`` (cancel, a TaskGroup, a timeout) ends with it.

    Args:
        batch: the batch.
        execution: the application.
        resume: has the batch go on if it has to wait. Default: as the scheduler does.
        task_type: the type of the asyncio tasks.
        on_suspended: called with an asyncio task that has not ended with its first step. Default:
            nothing is called.
        begun: what `begin_async_tasks` has returned, if that was an asyncio task. Default: nothing
            has begun.

    Returns:
        False if the batch has to wait, so that it is the caller's no longer.
    """
    loop = asyncio.get_running_loop()
    while True:
        runner = begun or begin_async_tasks(batch, execution, resume, task_type, loop, True)
        if runner is True or runner is False:
            return runner
        if on_suspended is not None and begun is None:
            on_suspended(runner)
        begun = None
        try:
            await runner
        except asyncio.CancelledError as exc:
            if not runner.cancelled():  # pragma: no cover  whoever awaits this was cancelled
                raise
            task = batch.running
            if task is None:  # it has told: it was cancelled as it returned
                continue
            # It was cancelled before its first step, so that it could not tell by itself.
            forgo(batch.awaited)
            batch.awaited = None
            task.context.run(execution.settle, batch, task, exc)
            batch.running = None


def begin_async_tasks(  # noqa: PLR0917  called for every batch
    batch: Batch,
    execution: Execution,
    resume: Callable[[], object] | None,
    task_type: type[asyncio.Task[None]],
    loop: asyncio.AbstractEventLoop,
    at_once: bool,
) -> asyncio.Task[None] | bool:
    """Run the async tasks at the head of a batch, as long as each ends with its first step.

    Args:
        batch: as for `run_async_tasks`.
        execution: as for `run_async_tasks`.
        resume: as for `run_async_tasks`.
        task_type: as for `run_async_tasks`.
        loop: that which runs here.
        at_once: whether they take their first step before this returns, where Python can have that.

    Returns:
        The asyncio task of the first that has not ended; True if there is none, and False if the
        batch has to wait.
    """
    is_heard = execution.events.has_listeners()
    is_plain = not is_heard and execution.hooks.ascope is None
    new: Any = task_type
    runner: asyncio.Task[None]
    if batch.awaited is not None and batch.running is not None:
        steps = _run_with_all(batch, batch.running, execution, is_heard)
        runner = new_task(new, steps, loop, batch.running.context, at_once)
        if not runner.done():  # pragma: no branch  as below
            return runner
    while batch.waiting:
        task = execution.turns.take(batch, True, resume) if batch.is_checked else batch.take(True)
        if not task:
            return task is None
        steps = (
            _run(batch, task, execution)
            if is_plain
            else _run_with_all(batch, task, execution, is_heard)
        )
        runner = (  # as `new_task`, whose call would cost each task
            new(steps, loop=loop, context=task.context, eager_start=at_once)
            if _CAN_BEGIN_AT_ONCE
            else new(steps, loop=loop, context=task.context)
        )
        if not runner.done():  # pragma: no branch  as it always is before Python 3.12
            return runner
    return True


async def _run(batch: Batch, task: Task, execution: Execution) -> None:
    """Run one task of which nobody hears, as `_run_with_all` would: this is what each one costs.

    Whatever it raises ends here: asyncio would let some of it end the loop.
    """
    _set_owner(batch)
    try:
        result = task.call()
        if type(result) is CoroutineType:  # the common case, without inspect's detours
            result = await result
        while result is not None and isawaitable(result):
            result = await result
    except BaseException as exc:
        _settle(batch, task, execution, exc)
    batch.running = None
    if batch.carrier is not None:
        batch.carrier.task_has_ended()


async def _run_with_all(batch: Batch, task: Task, execution: Execution, is_heard: bool) -> None:
    """Run one task, or what a sync one has returned, in the framework's scope, and tell of it."""
    _set_owner(batch)
    ascope = execution.hooks.ascope or nullcontext
    result, batch.awaited = batch.awaited, None
    if is_heard and result is None:
        execution.events.started(batch, task)
    try:
        async with ascope():
            if result is None:
                result = task.call()
            while result is not None and isawaitable(result):
                result = await result
    except BaseException as exc:
        _settle(batch, task, execution, exc)
    else:
        if is_heard:
            execution.events.succeeded(batch, task)
    batch.running = None
    if batch.carrier is not None:
        batch.carrier.task_has_ended()


def _settle(batch: Batch, task: Task, execution: Execution, exception: BaseException) -> None:
    if host.raised_by_signal(exception):
        execution.events.interrupted(batch, task, exception)
        # The batch goes on meanwhile.
        asyncio.get_running_loop().call_soon(_raise, exception)
    else:
        execution.settle(batch, task, exception)


def task_that_runs_in(frame: FrameType) -> tuple[Task, list[FrameType]] | None:
    """Return the task whose step a thread is in, and the frames of that, the outermost first.

    Args:
        frame: the innermost frame of the thread.

    Returns:
        None where it is in the step of no task.
    """
    inside: list[FrameType] = []
    each: FrameType | None = frame
    while each is not None and each.f_code not in _STEPS:
        inside.insert(0, each)
        each = each.f_back
    return None if each is None else (each.f_locals["task"], inside)


_STEPS = {_run.__code__, _run_with_all.__code__}


def _raise(exception: BaseException) -> None:
    raise exception
