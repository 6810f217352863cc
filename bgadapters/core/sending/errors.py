"""What an engine hears of a task that it has run."""

from __future__ import annotations

from bgadapters.core.model import lines
from bgadapters.core.model.errors import BackgroundTasksError


class RetryLater(Exception):  # noqa: N818  it asks for something
    """Raised by `Engine.run`: the task is to be run once more.

    Args:
        seconds: after so many seconds, at least.
        cause: what the attempt has raised.
    """

    def __init__(self, seconds: float, cause: BaseException) -> None:
        super().__init__(f"tried again in {seconds:.3g} s: {_shown(cause)}")
        self.seconds = seconds
        self.cause = cause


class KeyIsTaken(Exception):  # noqa: N818  it is no failure
    """Raised by `Engine.send`: a task with its key waits already, and ``on_duplicate`` is
    ``"keep"``. The task ends as replaced.
    """


def as_failure(raised: BaseException) -> RuntimeError:
    """Return an exception for what a task has raised that is none.

    A worker would take it for the end of itself, or of what it runs besides.
    """
    return RuntimeError(f"the task has raised {_shown(raised)}")


def _shown(raised: BaseException) -> str:
    return lines.text(lambda: repr(raised), lines.name_of_type(raised))


class RefusedError(BackgroundTasksError, LookupError):
    """Raised by `Engine.run`: what has arrived names no task that may be run here."""
