"""The task of a Celery app that runs what was sent to it."""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from celery import Celery
from celery.exceptions import Reject

from bgadapters.adapters import Arrivals, RetryLater, as_failure, log
from bgadapters.engines.places import OncePerPlace

NAME = "bgadapters.run"
HIDDEN = "(...)"
"""What Celery's log and events show of a payload, which has the arguments of users' tasks."""


class Worker:
    """Runs what arrives for the engines of one Celery app.

    Args:
        app: the Celery app.

    Attributes:
        task: the Celery task.
        arrivals: the applications that run what arrives.
    """

    def __init__(self, app: Celery) -> None:
        self.arrivals = Arrivals(f"the Celery app {app.main!r}")

        def run(task: Any, payload: str) -> None:
            self._run(task, payload)

        # It is registered later, when the app's settings are complete.
        self.task = app.task(
            run,
            name=NAME,
            bind=True,
            shared=False,
            serializer="json",
            ignore_result=True,
            max_retries=None,
            throws=(Exception,),  # which was told of as what any task raises
            acks_late=True,
            reject_on_worker_lost=True,
        )

    def _run(self, task: Any, payload: str) -> None:
        try:
            self.arrivals.run(payload, task.request.retries + 1)
        except RetryLater as later:
            _retry(task, later)
        except Exception:
            raise
        except BaseException as exc:
            # Celery would take SystemExit for the end of the worker, and run it again and again.
            # What else is no Exception ends some of its pools.
            raise as_failure(exc) from exc


def _retry(task: Any, later: RetryLater) -> NoReturn:
    try:
        raise task.retry(exc=later.cause, countdown=later.seconds, argsrepr=HIDDEN)
    except Reject as exc:  # it could not be published
        if not task.acks_late:
            which = f"task {task.request.id}, {task.request.shadow}"
            log(logging.ERROR, "No further attempt could be published of %s: %r", which, exc.reason)
            raise later.cause from exc
        raise Reject(exc.reason, requeue=True) from later.cause


worker_of = OncePerPlace(Worker)
"""Returns what runs the tasks of a Celery app."""
