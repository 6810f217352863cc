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
from types import CoroutineType, GeneratorType, coroutine
from typing import TYPE_CHECKING, Any

from bgadapters.core.runner import run_batch, start_async

if TYPE_CHECKING:
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


async def arun(queue: BackgroundTasks) -> None:
    """Run a released queue on the running loop; its sync tasks go to the worker threads.

    If the loop itself ends, what is left of the queue goes on in the threads.
    """
    hop: _Hop | None = None
    try:
        while True:
            if queue._awaited is not None or (queue._tasks and queue._tasks[0].is_async):
                await _run_async_batch(queue)
            elif queue._tasks:
                hop = _Hop(queue)
                await hop.done()
                hop = None
            if queue._finish():
                return
    except (asyncio.CancelledError, GeneratorExit):
        if hop is None or not hop.detach():
            queue.runtime.resume(queue)
        raise


async def join(driver: asyncio.Task[None]) -> None:
    """Wait for the driver of a queue without the waiter's cancellation reaching it."""
    try:
        await asyncio.shield(driver)
    except asyncio.CancelledError:
        if not driver.cancelled() or _is_cancelled():  # else a drain gave up on the queue
            raise


def cancel(driver: asyncio.Task[None]) -> None:
    """Cancel the driver of a queue, from any thread."""
    with suppress(RuntimeError):  # its loop is closed, so it does not run any more
        driver.get_loop().call_soon_threadsafe(driver.cancel)


async def _run_async_batch(queue: BackgroundTasks) -> None:
    """Run the async tasks at the head of a queue, each stepped inside its own context."""
    tasks = queue._tasks
    events = queue.runtime.events
    heard = events.heard
    while queue._awaited is not None or (tasks and tasks[0].is_async):
        task, awaitable = _next(queue)
        if heard and awaitable is None:
            events.started(task)
        try:
            await _perform(queue, task, awaitable)
        except GeneratorExit as exc:
            events.failed(task, exc)
            raise
        except asyncio.CancelledError as exc:
            events.failed(task, exc)
            if _is_cancelled():  # the driver is, from outside; else it is the task's own affair
                raise
        except BaseException as exc:
            events.failed(task, exc)
        else:
            if heard:
                events.succeeded(task)
        queue._running = None


def _next(queue: BackgroundTasks) -> tuple[Task, Awaitable[Any] | None]:
    """Take the next task; or the running one with the awaitable that its sync part returned."""
    awaitable, queue._awaited = queue._awaited, None
    if awaitable is None or queue._running is None:
        queue._running = queue._tasks[0]
        queue._tasks.popleft()
    return queue._running, awaitable


async def _perform(queue: BackgroundTasks, task: Task, awaitable: Awaitable[Any] | None) -> None:
    ascope = queue.runtime.ascope
    if ascope is not None:
        await in_context(task.context, _scoped(queue, task, awaitable, ascope))
        return
    if awaitable is None:
        awaitable = task.context.run(start_async, queue, task)
    result = await in_context(task.context, awaitable)
    if result is not None:
        await in_context(task.context, _await_all(result))


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


def _is_cancelled() -> bool:
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


@coroutine
def in_context(context: Context, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await with every step taken inside ``context``.

    ``context.run(coroutine_function)`` would run none of the body in it, and a
    task of its own (``create_task(context=...)``) costs several times the step.
    """
    run = context.run
    is_coroutine = type(awaitable) in (CoroutineType, GeneratorType)
    steps: Any = awaitable if is_coroutine else run(awaitable.__await__)
    send = steps.send if hasattr(steps, "send") else lambda _: next(steps)
    try:
        waited_for = run(send, None)
    except StopIteration as stop:
        return stop.value
    while True:
        step: tuple[Any, Any]
        try:
            step = send, (yield waited_for)
        except GeneratorExit:
            run(steps.close)
            raise
        except BaseException as exc:
            step = steps.throw, exc
        try:
            waited_for = run(*step)
        except StopIteration as stop:
            return stop.value


class _Hop:
    """One trip of a queue's sync tasks to a worker thread and back to the loop."""

    __slots__ = ("_arrived", "_detached", "_lock", "_loop", "_queue", "_waiter")

    def __init__(self, queue: BackgroundTasks) -> None:
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._arrived = False  # the batch has run; guarded by _lock
        self._detached = False  # nobody waits for it; guarded by _lock

    async def done(self) -> None:
        """Send the batch off and wait until it has run."""
        self._queue.runtime.submit(self._work)
        await self._waiter

    def detach(self) -> bool:
        """Nobody waits any more. Tell whether the worker carries on with the queue by itself."""
        with self._lock:
            self._detached = True
            return not self._arrived

    def _work(self) -> None:
        run_batch(self._queue)
        with self._lock:
            self._arrived = True
            detached = self._detached
        if not detached:
            with suppress(RuntimeError):  # the loop was closed without a word to its tasks
                self._loop.call_soon_threadsafe(self._wake)
                return
        self._queue.runtime.resume(self._queue)

    def _wake(self) -> None:
        if not self._waiter.done():
            self._waiter.set_result(None)


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


def drive(queue: BackgroundTasks) -> None:
    """Start the driver of a queue on the loop this is called in."""
    queue._driver = asyncio.get_running_loop().create_task(arun(queue))


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
