"""How many tasks have ended, and how."""

from __future__ import annotations

import threading

from bgadapters.core.model.record import Outcome


class Totals:
    """Counts the tasks of one application that have not succeeded, since this process began.

    What succeeds is counted by the batch: see `InFlight`.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start from nothing: at first, and in a forked child."""
        self._lock = threading.RLock()  # signal handlers and the collector tell of tasks too
        self._counts: dict[Outcome, int] = dict.fromkeys(
            ("failed", "discarded", "replaced", "abandoned", "sent"), 0
        )

    def count(self, outcome: Outcome, tasks: int = 1) -> None:
        """Note that so many tasks have ended."""
        with self._lock:
            self._counts[outcome] += tasks

    def counts(self) -> dict[Outcome, int]:
        """Return the number of tasks for each outcome."""
        return dict(self._counts)
