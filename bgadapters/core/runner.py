"""Run a queue in a thread: order, isolation, and where an async task goes from there.

Its twin for event loops is ``loop.arun``; they hand a queue to each other.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from bgadapters.core import rehearsal
from bgadapters.core.current import owner
from bgadapters.core.task import is_awaitable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task


def run(queue: BackgroundTasks) -> None:
    """Run a released queue in this thread, as far as its first async task; hand the rest on."""
    while True:
        if queue._awaited is None:
            run_batch(queue)
        if queue._awaited is None and not queue._tasks:
            if queue._finish():
                return
        elif _hand_to_loop(queue):
            return
        else:
            queue.runtime.loop.run_here(queue)


def _hand_to_loop(queue: BackgroundTasks) -> bool:
    """Give a queue to the loop for its async tasks; False where there is to be none."""
    from bgadapters.core.loop import drive

    if queue._home is not None:
        try:
            queue._home.call_soon_threadsafe(drive, queue)
            return True
        except RuntimeError:  # that loop was closed meanwhile
            queue._home = None
    if rehearsal.audience is not None:
        return False
    if queue.runtime.loop.spawn(queue):
        return True
    queue.runtime.say_that_there_are_no_threads()
    return False


def run_batch(queue: BackgroundTasks) -> None:
    """Run the sync tasks at the head of a queue, up to the first that needs a loop.

    That is an async task, which stays at the head, or a sync one that returned an
    awaitable, which is left in ``queue._awaited``.
    """
    events = queue.runtime.events
    heard = events.heard
    scope = queue.runtime.scope
    while (task := queue._take(False)) is not None:
        if heard:
            events.started(task)
        try:
            result = task.context.run(_call, queue, task, scope)
        except BaseException as exc:
            # SystemExit, KeyboardInterrupt and CancelledError too: a task that raises them
            # fails by itself, and never takes a worker, a server or its successors with it.
            events.failed(task, exc)
        else:
            if result is not None and is_awaitable(result):
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
