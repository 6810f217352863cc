"""The task in which a consumer of Huey runs those of applications."""

from __future__ import annotations

from typing import Any
from weakref import ref

from huey import Huey
from huey.exceptions import RetryTask

from bgadapters.adapters import Arrivals, as_failure
from bgadapters.engines import RetryLater
from bgadapters.engines.places import OncePerPlace


class Arriving:
    """It is registered once with each Huey, which has a name but once.

    Args:
        huey: the Huey.

    Attributes:
        arrivals: the applications that run what arrives.
        task_class: what Huey makes of it.
    """

    def __init__(self, huey: Huey) -> None:
        self.arrivals = arrivals = Arrivals(f"the Huey {huey.name!r}")
        where = ref(huey)  # which keeps the function, and by this nobody else

        def run(payload: str, attempt: int, task: Any) -> None:
            _run(arrivals, where(), payload, attempt, task)

        run.__module__ = "bgadapters"
        self.task_class: Any = huey.task(name="run", context=True)(run).task_class


def _run(arrivals: Arrivals, huey: Any, payload: str, attempt: int, task: Any) -> None:
    """Run what Huey's consumer has got, and tell Huey how that ended.

    Args:
        arrivals: the applications.
        huey: the Huey.
        payload: that of the message.
        attempt: the number of the attempt.
        task: Huey's own object of it.
    """
    try:
        arrivals.run(payload, attempt)
    except RetryLater as exc:
        task.args = (payload, attempt + 1)
        delay = None if huey.immediate else exc.seconds or None
        raise RetryTask(str(exc), delay=delay) from exc
    except (Exception, KeyboardInterrupt):  # by that Huey ends its workers
        raise
    except BaseException as exc:  # a SystemExit would end the consumer's thread
        raise as_failure(exc) from exc


arriving_at = OncePerPlace(Arriving)
"""Returns what runs the tasks that arrive at a Huey."""
