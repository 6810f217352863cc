"""The end of a response that waits for its tasks, where the process is frozen afterwards."""

from __future__ import annotations

import logging
import threading
import time

from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.events import names


def release_response(queue: BackgroundTasks) -> None:
    """Release the queue of a response, from a thread of a server: as `BackgroundTasks.release`.

    With the setting ``hold_response`` wait until its tasks have run, at most ``drain_timeout``
    seconds; a WARNING then names those that have not. A task that makes requests itself does not
    wait for theirs, nor does the thread of an event loop, which may have to run them.
    """
    settings = queue.runtime.settings
    if not settings.hold_response or owner.get() is not None or loop_runs_here():
        queue.release()
        return
    queue.release()
    batches = _batches(queue)
    deadline = time.monotonic() + settings.drain_timeout
    for batch in batches:
        finished = threading.Event()
        if batch.on_finished(finished.set):
            finished.wait(max(0.0, deadline - time.monotonic()))
    _say_what_is_left(batches, settings.drain_timeout)


async def arelease_response(queue: BackgroundTasks) -> None:
    """Do as `release_response`, on an event loop. Cancelling the wait cancels no task."""
    from bgadapters.core.drivers.waiting import within

    timeout = queue.runtime.drain_timeout
    await within(timeout, queue.arelease())
    _say_what_is_left(_batches(queue), timeout)


def _batches(queue: BackgroundTasks) -> list[Batch]:
    """What is released with a queue or was before, save for what waits for a later time."""
    batch = queue.batch
    live = queue.runtime.in_flight.live()
    apart = [each for each in live if each.is_of(batch) and each.due is None]
    first = [*batch.earlier(), batch]
    return [*first, *(each for each in apart if each not in first)]


def _say_what_is_left(batches: list[Batch], timeout: float) -> None:
    left = [task for batch in batches if batch.is_running for task in batch.left()]
    if left:
        guard.log(
            logging.WARNING,
            "A response was held back for the drain timeout of %.3g s and ends now, before %d "
            "background task(s) that have not finished: %s",
            timeout,
            len(left),
            names(left),
        )
