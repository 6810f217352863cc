"""Run a queue on an event loop; and the loop for async tasks where the server has none.

Imported when the first async task or ASGI response comes, since asyncio is most
of what importing this package would otherwise cost.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context
from inspect import isawaitable
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any

from bgadapters.core.runner import start_async

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


async def arun(queue: BackgroundTasks) -> None:
    """Run the async tasks at the head of a queue on the running loop; then hand it on.

    Sync tasks that follow go to the worker threads, which give it back for the next
    async ones.
    """
    try:
        await _run_async_batch(queue)
    except GeneratorExit:
        _leave_loop(queue)
        raise
    if not queue._finish():
        queue.runtime.resume(queue)


def _leave_loop(queue: BackgroundTasks) -> None:
    """The loop has ended, or somebody cancelled the driver: the queue goes on without them."""
    queue._home = None
    queue.runtime.resume(queue)


async def finished(queue: BackgroundTasks) -> None:
    """Wait until a released queue has finished. Cancelling the wait cancels no task."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    thread = threading.get_ident()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def waker() -> None:
        if threading.get_ident() == thread:
            wake()
        else:
            with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
                loop.call_soon_threadsafe(wake)

    if queue._when_finished(waker):
        await waiter


def cancel(driver: asyncio.Task[None]) -> None:
    """Cancel the driver of a queue, from any thread."""
    with suppress(RuntimeError):  # its loop is closed, so it does not run any more
        driver.get_loop().call_soon_threadsafe(driver.cancel)


async def _run_async_batch(queue: BackgroundTasks) -> None:
    events = queue.runtime.events
    heard = events.heard
    while True:
        awaitable, queue._awaited = queue._awaited, None
        task = queue._running if awaitable is not None else queue._take(True)
        if task is None:
            return
        if heard and awaitable is None:
            events.started(task)
        try:
            rest = _begin(queue, task, awaitable)
            if rest is not None:
                await rest
        except BaseException as exc:
            events.failed(task, exc)
            if _ends_driver(exc):
                raise
        else:
            if heard:
                events.succeeded(task)
        queue._running = None


def _begin(
    queue: BackgroundTasks, task: Task, awaitable: Awaitable[Any] | None
) -> Awaitable[None] | None:
    """Take an async task's first step inside its context; return what is left, None for nothing.

    Many tasks have only one step, and this is what it costs them.
    """
    context = task.context
    ascope = queue.runtime.ascope
    if ascope is not None:
        return in_context(context, _scoped(queue, task, awaitable, ascope))
    if awaitable is None:
        awaitable = context.run(start_async, queue, task)
    if type(awaitable) is not CoroutineType:
        return in_context(context, _await_all(awaitable))
    try:
        waited_for = context.run(awaitable.send, None)
    except StopIteration as stop:
        return None if stop.value is None else in_context(context, _await_all(stop.value))
    return _finish(context, awaitable, waited_for)


async def _finish(context: Context, steps: Any, waited_for: Any) -> None:
    result = await _go_on(context, steps, waited_for)
    if result is not None:
        await in_context(context, _await_all(result))


async def _scoped(
    queue: BackgroundTasks,
    task: Task,
    awaitable: Awaitable[Any] | None,
    ascope: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    async with ascope():
        await _await_all(start_async(queue, task) if awaitable is None else awaitable)


async def _await_all(result: Any) -> None:
    """Await a result, and the coroutine it may have returned instead of awaiting it."""
    while isawaitable(result):
        result = await result


def _ends_driver(exception: BaseException) -> bool:
    """Whether the driver itself is cancelled or closed; else it is the task's own affair."""
    if isinstance(exception, asyncio.CancelledError):
        this = asyncio.current_task()
        return this is not None and this.cancelling() > 0
    return isinstance(exception, _Closing)


class _Closing(GeneratorExit):
    """The driver is closed: its loop has ended and was thrown away."""


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
            raise _Closing from None
        except BaseException as exc:
            step = steps.throw, exc
        try:
            waited_for = run(*step)
        except StopIteration as stop:
            return stop.value


class Loop:
    """The long-lived event loop that async tasks share where the server has none.

    It runs in a daemon thread of its own, from the first async task on, so that a
    client or a connection pool bound to it can be kept between tasks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # guarded by _lock

    def spawn(self, queue: BackgroundTasks) -> None:
        """Run the rest of a queue on this loop. Callable from any thread."""
        self._started().call_soon_threadsafe(drive, queue)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=loop.run_forever, name="bgadapters-loop", daemon=True
                )
                thread.start()
                self._loop = loop
            return self._loop


def go_home(queue: BackgroundTasks) -> None:
    """Start a queue whose async tasks belong to the loop this is called in."""
    queue._home = asyncio.get_running_loop()
    if queue._starts_async():
        drive(queue)
    else:
        queue.runtime.resume(queue)


def drive(queue: BackgroundTasks) -> None:
    """Start the driver of a queue on the loop this is called in."""
    driver = queue._driver = asyncio.get_running_loop().create_task(arun(queue))

    def ended(_: object) -> None:  # a coroutine that never began could not tell by itself
        if driver.cancelled():
            _leave_loop(queue)

    driver.add_done_callback(ended)


async def wait_until(poll: Callable[[Callable[[], object]], bool]) -> None:
    """Wait without blocking until ``poll(waker)`` is true; it calls ``waker`` when to ask again."""
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()

    def waker() -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(changed.set)

    while not poll(waker):
        await changed.wait()
        changed.clear()


async def within(timeout: float, waiting: Coroutine[Any, Any, None]) -> bool:
    """Wait, but no longer than ``timeout`` seconds; tell whether it came to pass."""
    try:
        await asyncio.wait_for(waiting, timeout)
    except TimeoutError:
        return False
    return True
