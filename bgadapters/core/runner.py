"""Run a queue in a thread: order, isolation, and where an async task goes from there.

Its twin for event loops is ``loop.arun``; both take tasks through the helpers here.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractContextManager
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from bgadapters.core.current import owner

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


def run(queue: BackgroundTasks) -> None:
    """Run a released queue in this thread; what is async is handed to the runtime's loop."""
    while True:
        if queue._awaited is None:
            run_batch(queue)
        if queue._awaited is not None or queue._tasks:
            queue.runtime.loop.spawn(queue)
            return
        if queue._finish():
            return


def run_batch(queue: BackgroundTasks) -> None:
    """Run the sync tasks at the head of a queue, up to the first that needs a loop.

    That is an async task, which stays at the head, or a sync one that returned an
    awaitable, which is left in ``queue._awaited``.
    """
    tasks = queue._tasks
    events = queue.runtime.events
    heard = events.heard
    scope = queue.runtime.scope
    while tasks:
        task = tasks[0]
        if task.is_async:
            return
        queue._running = task
        tasks.popleft()
        if heard:
            events.started(task)
        try:
            result = task.context.run(_call, queue, task, scope)
        except BaseException as exc:
            # SystemExit, KeyboardInterrupt and CancelledError too: a task that raises them
            # fails by itself, and never takes a worker, a server or its successors with it.
            events.failed(task, exc)
        else:
            if result is not None and isawaitable(result):
                queue._awaited = result
                return
            if heard:
                events.succeeded(task)
        queue._running = None


def _call(
    queue: BackgroundTasks, task: Task, scope: Callable[[], AbstractContextManager[Any]] | None
) -> Any:
    owner.set(queue)
    if scope is None:
        return task.call()
    with scope():
        return task.call()


def start_async(queue: BackgroundTasks, task: Task) -> Awaitable[Any]:
    """Make the call of an async task, inside its context; returns what is to be awaited."""
    owner.set(queue)
    return task.call()  # type: ignore[no-any-return]
