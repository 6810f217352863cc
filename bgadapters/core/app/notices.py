"""What an application says of its load: once, or as seldom as its settings allow."""

from __future__ import annotations

import logging
from contextvars import Context

from bgadapters.core import host
from bgadapters.core.drivers.in_flight import InFlight
from bgadapters.core.model import guard
from bgadapters.core.model.events import names
from bgadapters.core.model.settings import Settings
from bgadapters.core.model.task import Task


class Notices:
    """Logs at WARNING what keeps the tasks of an application, or its requests, waiting.

    Args:
        settings: those of the application.
        in_flight: what waits and runs.

    Attributes:
        has_refused_threads: whether it was said that no worker thread can be started.
    """

    def __init__(self, settings: Settings, in_flight: InFlight) -> None:
        self._settings = settings
        self._in_flight = in_flight
        self._has_told_of_overrun = False
        self.has_refused_threads = False

    def nothing_finishes(self) -> None:
        """A response was kept waiting for room, and no task has finished meanwhile."""
        if not self._has_told_of_overrun:
            self._has_told_of_overrun = True
            running = [batch.running for batch in self._in_flight.live() if batch.running]
            Context().run(  # it names tasks of other requests than the one that waits here
                guard.log,
                logging.WARNING,
                "%d background tasks wait or run, max_pending is %d, and none has finished while "
                "a response was kept waiting for room: it goes on all the same, and so will those "
                "after it. Tasks that wait for their own application do this, or that hang. Raise "
                "max_pending or max_workers. What runs: %s",
                self._in_flight.in_use,
                self._settings.max_pending,
                names(running),
            )

    def tasks_wait(self) -> None:
        """Tasks have waited for as long as ``stall_warning`` says, while all workers were busy."""
        live = self._in_flight.live()
        running = [batch.running for batch in live if batch.running and not batch.running.is_async]
        guard.log(
            logging.WARNING,
            "Background tasks have waited for %.3g s or longer: %d of them wait, and all %d "
            "workers are busy (max_workers). Give a time limit to what may hang, or raise "
            "max_workers. What runs: %s",
            self._settings.stall_warning,
            sum(len(batch) for batch in live if batch.due is None or batch.capacity),
            self._settings.max_workers,
            names(running),
        )

    def loop_is_held(self, task: Task, stack: str) -> None:
        """A task has kept its event loop from going on, for as long as ``stall_warning`` says."""
        guard.log(
            logging.WARNING,
            "A background task blocks its event loop, which has not gone on for %.3g s, and "
            "nothing else on that loop can: %s. Make it a plain function, which runs in a worker "
            "thread, or have it await what takes long. Where it is:\n%s",
            self._settings.stall_warning,
            task.name,
            stack,
        )

    def no_threads(self) -> None:
        """No worker thread can be started: said once."""
        if not self.has_refused_threads:
            self.has_refused_threads = True
            guard.log(
                logging.WARNING,
                "No worker thread can be started here, so background tasks run in the thread that "
                "releases them; requests will wait for them%s",
                "" if host.has_threads() else f". {host.HOW_TO_HAVE_THREADS}",
            )
