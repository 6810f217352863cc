"""Which task this is, for the code of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bgadapters.core.model.context import task_running_here

if TYPE_CHECKING:
    from bgadapters.core.model.middleware import TaskInfo


def current_task() -> TaskInfo | None:
    """Return the task that this code is part of; None outside of tasks.

    So code that is used in views and in tasks can ask. It is known in the task itself, in asyncio
    tasks that it starts, and in threads that it starts with a copy of its context
    (`asyncio.to_thread`, asgiref's ``sync_to_async``).

    What outlives its task is part of none, but may be told of a later task of the same queue as
    long as one runs: ask before.
    """
    batch = task_running_here()
    task = None if batch is None else batch.running
    if batch is None or task is None:
        return None
    from bgadapters.core.model.middleware import TaskInfo

    return TaskInfo(task, batch.recorded(task), bool(task.is_async))
