"""Run async tasks one after the other on the running loop, each in its own context."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import Context
from inspect import isawaitable
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

from bgadapters.core.current import owner

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


async def run_async_batch(queue: BackgroundTasks) -> None:
    """Run the async tasks at the head of a queue, up to the first sync one, which stays there."""
    events = queue.runtime.events
    heard = events.heard
    ascope = queue.runtime.ascope
    driver = asyncio.current_task()
    while True:
        awaitable, queue._awaited = queue._awaited, None
        task = queue._running if awaitable is not None else queue._take(True)
        if task is None:
            return
        if heard and awaitable is None:
            events.started(task)
        try:
            if ascope is None and awaitable is None:
                rest = task.context.run(_first_step, queue, task)
            else:
                rest = in_context(task.context, _all_steps(queue, task, awaitable, ascope))
            if rest is not None:
                await rest
        except BaseException as exc:
            events.failed(task, exc)
            _go_on_unless_ended(driver, exc)
        else:
            if heard:
                events.succeeded(task)
        queue._running = None


def _first_step(queue: BackgroundTasks, task: Task) -> Awaitable[None] | None:
    """Take an async task's first step; return what is left, None for nothing.

    Called inside the task's context. Many tasks have only one step, and this is what it costs.
    """
    owner.set(queue)
    steps = task.call()
    if type(steps) is not CoroutineType:
        return in_context(task.context, _await_all(steps))
    try:
        waited_for = steps.send(None)
    except StopIteration as stop:
        result = stop.value
        return None if result is None else in_context(task.context, _await_all(result))
    return _finish(task.context, steps, waited_for)


async def _finish(context: Context, steps: Any, waited_for: Any) -> None:
    result = await _go_on(context, steps, waited_for)
    if result is not None:
        await in_context(context, _await_all(result))


async def _all_steps(
    queue: BackgroundTasks,
    task: Task,
    awaitable: Awaitable[Any] | None,
    ascope: Callable[[], AbstractAsyncContextManager[Any]] | None,
) -> None:
    """Run an async task inside its scope, or what a sync one has returned."""
    async with nullcontext() if ascope is None else ascope():
        if awaitable is None:
            owner.set(queue)
            awaitable = task.call()
        await _await_all(awaitable)


async def _await_all(result: Any) -> None:
    """Await a result, and the coroutine it may have returned instead of awaiting it."""
    while isawaitable(result):
        result = await result


def _go_on_unless_ended(driver: asyncio.Task[Any] | None, exception: BaseException) -> None:
    """Raise if it is the driver that has ended, and not only the task that raised."""
    if _is_closed(driver):
        raise GeneratorExit from exception
    if _is_cancelled(driver, exception):
        raise exception


def _is_closed(driver: asyncio.Task[Any] | None) -> bool:
    """Whether this is no step of the driver: it is closed, its loop having been thrown away."""
    try:
        return asyncio.current_task() is not driver
    except RuntimeError:  # no loop at all
        return True


def _is_cancelled(driver: asyncio.Task[Any] | None, exception: BaseException) -> bool:
    """Whether the driver itself is cancelled; else it is the task's own affair."""
    is_cancelled = isinstance(exception, asyncio.CancelledError)
    return is_cancelled and driver is not None and driver.cancelling() > 0


@coroutine
def in_context(context: Context, steps: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine with every step taken inside ``context``.

    ``context.run(coroutine_function)`` would run none of the body in it, and a
    task of its own (``create_task(context=...)``) costs several times the step.
    """
    try:
        waited_for = context.run(steps.send, None)
    except StopIteration as stop:
        return stop.value
    return (yield from _go_on(context, steps, waited_for))


@coroutine
def _go_on(context: Context, steps: Any, waited_for: Any) -> Generator[Any, Any, Any]:
    """Pass on what the steps wait for, and what comes of it back to them, inside ``context``."""
    run = context.run
    while True:
        step: tuple[Any, Any]
        try:
            step = steps.send, (yield waited_for)
        except GeneratorExit:
            run(steps.close)
            raise
        except BaseException as exc:
            step = steps.throw, exc
        try:
            waited_for = run(*step)
        except StopIteration as stop:
            return stop.value
