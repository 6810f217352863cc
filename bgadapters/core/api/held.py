"""The end of a response that waits for its tasks, where the process is frozen afterwards."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.events import names


def release_response(queue: BackgroundTasks) -> None:
    """Release the queue of a response, from a thread of a server: as `BackgroundTasks.release`.

    With the setting ``hold_response`` wait until its tasks have ended, at most ``drain_timeout``
    seconds: also for their further attempts and for those of a later time, if that comes before.
    A WARNING names the others. A task that makes requests itself does not wait for theirs, nor
    does the thread of an event loop, which may have to run them.
    """
    settings = queue.runtime.settings
    queue_waits = settings.hold_response and owner.get() is None and not loop_runs_here()
    deadline = time.monotonic() + settings.drain_timeout
    queue.release()
    if not queue_waits:
        return
    for batch, left in _each(queue, deadline):
        finished = threading.Event()
        if batch.on_finished(finished.set):
            finished.wait(left)
    _say_what_is_left(queue, deadline)


async def arelease_response(queue: BackgroundTasks) -> None:
    """Do as `release_response`, on an event loop. Cancelling the wait cancels no task."""
    from bgadapters.core.drivers.waiting import finished, within

    runtime = queue.runtime
    deadline = time.monotonic() + runtime.drain_timeout
    await within(runtime.drain_timeout, queue.arelease())
    for batch, left in _each(queue, deadline):
        await within(left, finished(batch, runtime.adrain))
    _say_what_is_left(queue, deadline)


def _each(queue: BackgroundTasks, deadline: float) -> Iterator[tuple[Batch, float]]:
    """Give one after the other what is to be waited for, and for how many seconds, as long as any.

    What waits for the next attempt of a task is there before that task's own batch has finished.
    """
    while (left := deadline - time.monotonic()) > 0:
        batches = [each for each in _unfinished(queue) if not _is_late(each, deadline)]
        if not batches:
            return
        yield batches[0], left


def _unfinished(queue: BackgroundTasks) -> list[Batch]:
    live = queue.runtime.in_flight.live()
    found = [each for each in live if each.is_of(queue.batch) and each.is_running]
    return [each for each in found if not each.is_left_behind]


def _is_late(batch: Batch, deadline: float) -> bool:
    return batch.due is not None and batch.due > deadline


def _say_what_is_left(queue: BackgroundTasks, deadline: float) -> None:
    timeout, unfinished = queue.runtime.drain_timeout, _unfinished(queue)
    late = [task for each in unfinished if _is_late(each, deadline) for task in each.left()]
    left = [task for each in unfinished if not _is_late(each, deadline) for task in each.left()]
    if left:
        guard.log(
            logging.WARNING,
            "A response was held back for the drain timeout of %.3g s and ends now, before %d "
            "background task(s) that have not finished: %s",
            timeout,
            len(left),
            names(left),
        )
    if late:
        guard.log(
            logging.WARNING,
            "A response that is held back does not wait for %d background task(s) whose time does "
            "not come within the drain timeout of %.3g s: %s",
            len(late),
            timeout,
            names(late),
        )
