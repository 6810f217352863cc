"""The errors that a caller can meet, all of one family."""

from _thread import TIMEOUT_MAX


class BackgroundTasksError(Exception):
    """The base of every error that bgadapters raises by itself."""


class NoResponseError(BackgroundTasksError, RuntimeError):
    """A task was added where no response is being made, so nothing would release it."""


class QueueClosedError(BackgroundTasksError, RuntimeError):
    """A task was added to a queue that had been released or discarded."""


class QueueFullError(BackgroundTasksError, RuntimeError):
    """A task was refused because ``max_pending`` tasks wait or run already."""


class PreconditionFailedError(BackgroundTasksError, RuntimeError):
    """A task waited for something that did not come, such as a commit. Told, never raised."""


class NotPortableError(BackgroundTasksError, TypeError):
    """A task that could not be sent to another process, where ``strict_portable`` asks for it."""


class UnavailableError(BackgroundTasksError, RuntimeError):
    """What a response needs before it may say that its tasks are safe is away: 503 by default."""


class StoreUnavailableError(UnavailableError):
    """The store of durable tasks is away, full or locked: nothing was kept."""


class EngineUnavailableError(UnavailableError):
    """An engine has not taken a task: its broker is away, refuses, or does not answer in time."""


class SettingsError(BackgroundTasksError, ValueError):
    """A setting has an unknown name or a value it does not accept."""


class Retry(BackgroundTasksError, RuntimeError):  # noqa: N818  raised to ask for it
    """Raised by a task that is to be tried again, if it has an attempt left (``retries``).

    Args:
        reason: why, for the log. Default: nothing is said.
        delay: seconds to wait for the next attempt, such as an HTTP 429 names them. Default: the
            option ``backoff`` decides.

    Raises:
        TypeError: ``delay`` is no number of seconds.
    """

    def __init__(self, reason: object = "", *, delay: float | None = None) -> None:
        is_number = isinstance(delay, (int, float)) and not isinstance(delay, bool)
        if delay is not None and not (is_number and 0 <= delay <= TIMEOUT_MAX):
            raise TypeError(
                f"Retry(delay=...) accepts a number of seconds from 0 to {TIMEOUT_MAX:.0f}, or "
                f"None, not {delay!r}"
            )
        super().__init__(*([reason] if reason else []))
        self.delay = delay


class NoRetry(BackgroundTasksError, RuntimeError):  # noqa: N818  raised to ask for it
    """Raised by a task that has failed for good, whatever attempts it has left."""


class RequestScopedWarning(UserWarning):
    """A task is given what belongs to its request and is closed with it, such as a session."""


NOT_A_FIELD = (
    "FastAPI takes this BackgroundTasks for a part of the request. Import it from "
    "bgadapters.fastapi and annotate a parameter with it alone: "
    "'background_tasks: BackgroundTasks'. Where the annotation is not seen (the attributes of a "
    "class-based view, '| None') or with Depends, write 'Depends(get_background_tasks)', from "
    "bgadapters.fastapi as well."
)
"""What to say where pydantic is asked to read a queue out of a request."""
