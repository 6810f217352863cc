"""A task that another process has added, as a task of this one."""

from __future__ import annotations

import time
from contextvars import Context
from typing import Any, NamedTuple

from bgadapters.core.app.entering import to_enter
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.carried import restore
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.options import Options, TaskOptions
from bgadapters.core.model.outcome import ResponseOutcome
from bgadapters.core.model.payload import StoredCall
from bgadapters.core.model.record import KnownRecord
from bgadapters.core.model.task import Task, made


class Elsewhere:
    """The queue of a task that was added in another process.

    Args:
        id: that of the queue.
        method: that of its request.
        path: that of its request.
    """

    outcome: ResponseOutcome | None = None

    def __init__(self, id: str, method: str | None, path: str | None) -> None:  # noqa: A002
        self.id = id
        self.method = method
        self.path = path


class Known(NamedTuple):
    """What is known of such a task.

    Attributes:
        id: that of the task.
        queue_id: that of its queue.
        added: when it was added, as `time.time` tells it.
        attempt: the number of the attempt that comes next.
    """

    id: str
    queue_id: str
    added: float
    attempt: int


def options_of(runtime: Runtime, call: StoredCall) -> Options:
    """Return the options of a call: those that were given, the function's own, the defaults."""
    marked = marked_options(call.func)
    options = runtime.default_options if marked is None else marked.over(runtime.default_options)
    return TaskOptions.parsed(None, call.options, "a stored task").over(options)


def rebuilt(  # noqa: PLR0917
    runtime: Runtime,
    batch: Batch,
    call: StoredCall,
    known: Known,
    options: Options,
    what: tuple[Any, bool],
) -> Task:
    """Return the task of a call, in a context of its own, inside of the task middlewares.

    Args:
        runtime: the application.
        batch: what it will be added to.
        call: the call.
        known: what is known of the task.
        options: its options.
        what: what is to be called, and whether that belongs on an event loop.
    """
    func, is_async = what
    context = Context()
    context.run(restore, runtime.hooks, call.carried or {})
    for enter in to_enter:
        context.run(enter, runtime, batch)
    task = made(func, call.args, call.kwargs or None, context, options, is_async)
    added = time.monotonic() - max(0.0, time.time() - known.added)
    origin = Elsewhere(known.queue_id, call.method, call.path)
    record = task.record = KnownRecord(origin, added, known.id, known.attempt)
    if runtime.middlewares is not None:
        task = runtime.middlewares.restored_to(task, record, call.captured or ())
    return task
