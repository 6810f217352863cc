"""Whose task is running here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgadapters.core.model.batch import Batch

owner: ContextVar[Batch | None] = ContextVar("bgadapters.owner", default=None)
"""The batch whose task is running here: that task alone may still add to the batch."""


def task_running_here() -> Batch | None:
    """Return the batch one of whose tasks this is part of; None outside of tasks.

    What a task has started, such as a thread in a copy of its context, may outlive its batch. It
    is part of no task then.
    """
    batch = owner.get()
    return batch if batch is not None and batch.is_running else None


def refuse_in_task(call: str) -> None:
    """Raise where a call is made that would wait for the task that makes it.

    Args:
        call: the call, for the message.

    Raises:
        RuntimeError: it is made by a task, or by a hook that is told of one.
    """
    batch = task_running_here()
    if batch is not None:
        task = batch.running
        name = "" if task is None else f" ({task.name})"
        raise RuntimeError(
            f"{call} was called by a background task{name}. It waits for all tasks, and so for "
            "this one, until it gives all of them up. Call it where no task runs, such as at the "
            "end of a script. To do something after the other tasks of this response, add it to "
            "their queue as its last task."
        )


@contextmanager
def on_behalf_of(batch: Batch) -> Iterator[None]:
    """Tell code of the application, called for a batch between its tasks, whose it is."""
    token = owner.set(batch)
    try:
        yield
    finally:
        owner.reset(token)
