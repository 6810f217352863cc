"""Which options make a task one of another type: the one list of features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic

from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.drivers.time_limit import time_limit_of
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.control import ControlledTask, Feature
from bgadapters.core.model.options import Options
from bgadapters.core.model.record import Record
from bgadapters.core.model.retry import retries_of
from bgadapters.core.model.task import Task

MakeFeature = Callable[[Options, Scheduler], Feature | None]

_FEATURES: tuple[MakeFeature, ...] = (retries_of, time_limit_of)
"""What makes the features of a task, the outermost first; None where its options ask for none."""


def controlled(
    task: Task, batch: Batch, scheduler: Scheduler, outer: Iterable[Feature] = ()
) -> Task:
    """Return a task that is being added to a batch as what its options make of it.

    Args:
        task: the task.
        batch: what it is added to.
        scheduler: that of its application.
        outer: further features, outside of those. Default: none.
    """
    options, features = task.options, list(outer)
    for make in _FEATURES:
        feature = make(options, scheduler)
        if feature is not None:
            features.append(feature)
    leaves = options.delay or options.priority or options.run_after is not None
    if not (features or leaves):
        return task
    return ControlledTask(task, task.record or Record(batch, monotonic()), features)
