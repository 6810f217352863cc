"""Another attempt for a task that has raised: ``retries``, `Retry` and `NoRetry`."""

from __future__ import annotations

import math
from random import SystemRandom
from threading import TIMEOUT_MAX
from typing import Any

from bgadapters.core.model.control import ControlledTask, Feature
from bgadapters.core.model.errors import NoRetry, Retry
from bgadapters.core.model.options import Options, shown
from bgadapters.core.model.task import Wait

# Not the numbers of the module random: they are the application's, which may count on their order;
# and forked workers would all have the same.
_RANDOM = SystemRandom()


class Retries(Feature):
    """Decides whether an attempt that has raised is followed by another, and when."""

    __slots__ = ()

    def next_attempt(self, task: ControlledTask, exception: BaseException) -> Wait | None:
        """See `Options` for what decides."""
        options = task.options
        if task.attempt > options.retries:
            return None
        if isinstance(exception, GeneratorExit):  # its loop was closed: the attempt could not end
            return Wait(_back_off(options, task.attempt, exception))
        if isinstance(exception, NoRetry) or not isinstance(exception, Exception):
            return None
        if isinstance(exception, Retry):
            if exception.delay is not None:
                return Wait(exception.delay, is_asked_for=True)
        elif not _is_worth_it(options.retry_on, exception):
            return None
        return Wait(_back_off(options, task.attempt, exception))


def _is_worth_it(retry_on: Any, exception: Exception) -> bool:
    if isinstance(retry_on, (type, tuple)):
        return isinstance(exception, retry_on)
    return bool(retry_on(exception))


def _back_off(options: Options, attempt: int, exception: Any) -> float:
    """The seconds to wait: those of the function, or a random part of what doubles each time.

    The whole of it is random ("full jitter"), so that tasks that have failed together do not come
    back together: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    backoff = options.backoff
    if callable(backoff):
        return _seconds(backoff(attempt, exception))
    longest = min(backoff * 2.0 ** min(attempt - 1, 1000), options.max_backoff)
    return _RANDOM.uniform(0.0, longest)


def _seconds(returned: Any) -> float:
    """Return what a function says as seconds; what is below 0 is the past, so at once.

    Raises:
        TypeError: it is no number, or one that has no end.
    """
    try:
        seconds = math.nan if isinstance(returned, str) else float(returned)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise TypeError(
            f"the function that was given as backoff has returned {shown(returned)}; it has to "
            "return a number of seconds"
        )
    return min(max(0.0, seconds), TIMEOUT_MAX)


_RETRIES = Retries()


def retries_of(options: Options, _: object) -> Feature | None:
    """Return what tries a task again; None if its options ask for no other attempt."""
    return _RETRIES if options.retries else None
