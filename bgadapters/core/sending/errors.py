"""What an engine hears of a task that it has run."""

from __future__ import annotations

from bgadapters.core.model.errors import BackgroundTasksError


class RetryLater(Exception):  # noqa: N818  it asks for something
    """Raised by `Engine.run`: the task is to be run once more.

    Args:
        seconds: after so many seconds, at least.
        cause: what the attempt has raised.
    """

    def __init__(self, seconds: float, cause: BaseException) -> None:
        super().__init__(f"tried again in {seconds:.3g} s: {cause!r}")
        self.seconds = seconds
        self.cause = cause


class KeyIsTaken(Exception):  # noqa: N818  it is no failure
    """Raised by `Engine.send`: a task with its key waits already, and ``on_duplicate`` is
    ``"keep"``. The task ends as replaced.
    """


class RefusedError(BackgroundTasksError, LookupError):
    """Raised by `Engine.run`: what has arrived names no task that may be run here."""
