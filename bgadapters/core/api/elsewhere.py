"""What `bgadapters.add_task` adds to in a task that another process has added.

There is no response. So the queue of such a task is made of its batch. To import this module is to
have it so.
"""

from __future__ import annotations

from bgadapters.core.api import current
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.app.entering import to_enter
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch


def enter(runtime: Runtime, batch: Batch) -> None:
    """Make the queue of a batch the current one, in the context of its task."""
    queue = BackgroundTasks(runtime=runtime)
    queue.batch = batch
    current.enter(queue)


to_enter.append(enter)
