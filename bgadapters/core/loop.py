"""Run a queue on an event loop; and the loop for async tasks where the server has none.

Imported when the first async task or ASGI response comes, since asyncio is most
of what importing this package would otherwise cost.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from functools import partial
from inspect import isawaitable
from types import CoroutineType, coroutine
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from bgadapters.core import host, rehearsal
from bgadapters.core.current import owner
from bgadapters.core.runner import run_batch
from bgadapters.core.waiting import wait_until, within

if TYPE_CHECKING:
    from bgadapters.core.backlog import Backlog
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


logger = logging.getLogger("bgadapters")

_STOPS = 3  # how often a loop may be stopped again


async def arun(queue: BackgroundTasks) -> None:
    """Run the async tasks at the head of a queue on the running loop; then hand it on.

    Sync tasks that follow go to the worker threads, which give it back for the next
    async ones; those of a bridge stay with this thread.
    """
    bridge = _bridge(queue)
    try:
        if bridge is None:
            await _run_async_batch(queue)
        else:
            await _run_bridged(queue, bridge)
    except GeneratorExit:
        _leave_loop(queue)
        raise
    if not queue._finish():
        queue.runtime.resume(queue)


def _bridge(queue: BackgroundTasks) -> rehearsal.Bridge | None:
    """How this queue keeps to one thread, if somebody looks on."""
    return None if rehearsal.audience is None else queue.runtime.bridge


def _leave_loop(queue: BackgroundTasks) -> None:
    """The loop has ended, or somebody cancelled the driver: the queue goes on without them."""
    queue._home = None
    queue.runtime.resume(queue)


def cancel(driver: asyncio.Task[None]) -> None:
    """Cancel the driver of a queue, from any thread."""
    with suppress(RuntimeError):  # its loop is closed, so it does not run any more
        driver.get_loop().call_soon_threadsafe(driver.cancel)


async def _run_bridged(queue: BackgroundTasks, bridge: rehearsal.Bridge) -> None:
    while len(queue) or queue._awaited is not None:
        await _run_async_batch(queue)
        await bridge.to_async(run_batch)(queue)


async def _run_async_batch(queue: BackgroundTasks) -> None:
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


class Loop:
    """The long-lived event loop that async tasks share where the server has none.

    It runs in a daemon thread of its own, from the first async task on, so that a
    client or a connection pool bound to it can be kept between tasks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # guarded by _lock
        self._turn = threading.Lock()
        self._threadless: asyncio.AbstractEventLoop | None = None  # guarded by _turn

    def spawn(self, queue: BackgroundTasks) -> bool:
        """Run the rest of a queue on this loop. Callable from any thread.

        False where no thread can be had for it.
        """
        loop = self._started()
        if loop is not None:
            loop.call_soon_threadsafe(drive, queue)
        return loop is not None

    def run_here(self, queue: BackgroundTasks) -> None:
        """Run the async tasks at the head of a queue in this thread."""
        bridge = _bridge(queue)
        if bridge is not None:
            bridge.to_sync(_run_async_batch)(queue)
            return
        if not self._turn.acquire(blocking=owner.get() is None):
            # The task that is having its turn may be waiting for what is done here.
            asyncio.run(_run_async_batch(queue))
            return
        try:
            if self._threadless is None:
                self._threadless = asyncio.new_event_loop()
                finalize(self, self._threadless.close)
            self._threadless.run_until_complete(_run_async_batch(queue))
        finally:
            self._turn.release()

    def _started(self) -> asyncio.AbstractEventLoop | None:
        with self._lock:
            if self._loop is None and host.threads_run():
                loop, run = _new_loop()
                try:
                    threading.Thread(target=run, name="bgadapters-loop", daemon=True).start()
                except RuntimeError:
                    loop.close()
                else:
                    self._loop = loop
            return self._loop


_closing: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # no driver may be added to these

_AT_ONCE: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}
"""How to have an asyncio task take its first step where it is made, before anything else runs."""


class _Driver(asyncio.Task[None]):
    """The asyncio task of a queue: a loop that is about to be closed waits for it.

    ``asyncio.run`` and servers cancel what is left of a loop that they have stopped, and run
    it again until all of that has ended. There the queue gets its drain timeout first.
    """

    _is_put_off = False

    def __init__(self, queue: BackgroundTasks, how: dict[str, Any]) -> None:
        self._queue = queue
        queue._driver = self  # first, for the queue may have finished when this returns
        super().__init__(arun(queue), loop=asyncio.get_running_loop(), **how)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, on a loop that runs; on one that has stopped, only after the drain timeout."""
        loop = self.get_loop()
        if loop.is_running() or loop.is_closed():
            return super().cancel(msg)
        if not self._is_put_off:
            self._is_put_off = True
            _closing.add(loop)
            loop.call_later(self._queue.runtime.settings.drain_timeout, self._give_up)
        return False

    def _give_up(self) -> None:
        """Abandon the queues of this loop; the process and its other queues may well go on."""
        if not self.done():
            runtime = self._queue.runtime
            live = runtime.backlog.live()
            runtime.give_up(
                runtime.settings.drain_timeout,
                [queue for queue in live if queue._home is self._queue._home],
            )
            runtime.backlog.disown_abandoned()


def run_stopped(backlog: Backlog, timeout: float) -> None:
    """At exit: run the loops that have stopped before their queues had finished, until they have.

    Queues of a loop that is closed go on without it.
    """
    deadline = time.monotonic() + timeout
    homes = {queue: queue._home for queue in backlog.live() if queue._home is not None}
    for queue, home in homes.items():
        if home.is_closed():
            _rescue(queue)
    for home in set(homes.values()):
        for _ in range(_STOPS):
            if home.is_closed() or home.is_running():
                break
            left = max(0.0, deadline - time.monotonic())
            waiting = home.create_task(
                within(left, wait_until(partial(backlog.is_idle, home=home)))
            )
            with suppress(RuntimeError):  # a stop that was pending has stopped it again
                home.run_until_complete(waiting)
                break


def _rescue(queue: BackgroundTasks) -> None:
    """Take a queue from a loop that was closed and will never step its driver again."""
    driver = queue._driver
    if driver is None or driver.done():  # a worker has the queue, and will see
        return
    coroutine: Any = driver.get_coro()
    coroutine.close()
    if queue._home is not None:  # it had not begun
        _leave_loop(queue)


def _run_forever(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop on, whatever an asyncio task of a task's own has raised."""
    while True:
        try:
            loop.run_forever()
        except BaseException:  # SystemExit, KeyboardInterrupt: asyncio lets them out of the loop
            logger.exception("Something that a background task has started has failed")
        else:
            return


def _new_loop() -> tuple[asyncio.AbstractEventLoop, Callable[[], None]]:
    """Make a loop, and what is to be called in a thread of its own."""
    if not host.threads_are_greenlets():
        loop = asyncio.new_event_loop()
        return loop, partial(_run_forever, loop)
    return _new_greenlet_loop()


def _new_greenlet_loop() -> tuple[asyncio.AbstractEventLoop, Callable[[], None]]:
    """Make a loop that hides from other greenlets when these may run.

    asyncio keeps the running loop by the thread of the system, so that in all of them
    ``asyncio.run``, asgiref's ``async_to_sync`` and Django's ORM would refuse to work. They run
    while it waits, and while it hands work to an executor, whose locks let them.
    """
    others: asyncio.AbstractEventLoop | None = None  # that which runs in another greenlet

    @contextmanager
    def hidden() -> Iterator[None]:
        nonlocal others
        asyncio._set_running_loop(others)
        try:
            yield
        finally:
            others = asyncio._get_running_loop()
            asyncio._set_running_loop(loop)

    class Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]
        def select(self, timeout: float | None = None) -> Any:
            with hidden():
                return super().select(timeout)

    class Loop(asyncio.SelectorEventLoop):
        def run_in_executor(  # type: ignore[override]
            self, executor: Any, func: Any, *args: Any
        ) -> asyncio.Future[Any]:
            with hidden():
                return super().run_in_executor(executor, func, *args)

    def run() -> None:
        nonlocal others
        others = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        _run_forever(loop)

    loop = Loop(Selector())
    return loop, run


def go_home(queue: BackgroundTasks, at_once: bool) -> None:
    """Start a queue whose async tasks belong to the loop this is called in.

    Where the caller is about to wait for them, ``at_once``, they may begin before this returns:
    a queue whose tasks wait for nothing then costs no turn of the loop.
    """
    try:
        queue._home = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "background tasks are run by asyncio, and no event loop of asyncio is running here; "
            "trio is not supported. In tests that use the pytest plugin of anyio, let the fixture "
            "anyio_backend return 'asyncio'."
        ) from None
    queue.runtime._enter(queue)
    if queue._starts_async() or _bridge(queue) is not None:
        drive(queue, _AT_ONCE if at_once else {})
    else:
        queue.runtime.resume(queue)


def drive(queue: BackgroundTasks, how: dict[str, Any] | None = None) -> None:
    """Start the driver of a queue on the loop this is called in, unless that is about to go."""
    if asyncio.get_running_loop() in _closing:
        _leave_loop(queue)
        return
    driver = _Driver(queue, how or {})

    def ended(_: object) -> None:  # a coroutine that never began could not tell by itself
        if driver.cancelled():
            _leave_loop(queue)

    if driver.done():
        ended(driver)
    else:
        driver.add_done_callback(ended)
