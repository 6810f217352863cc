"""Runs, in the process of a worker, what was sent to an engine."""

from __future__ import annotations

import json
from contextvars import Context
from typing import NoReturn

from bgadapters.core.app.control import controlled
from bgadapters.core.app.rebuilt import Known, options_of, rebuilt
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import instrumentation
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.control import ControlledTask, Feature
from bgadapters.core.model.event import TaskEvent, TaskObserver
from bgadapters.core.model.options import DEFAULT_OPTIONS, LOCAL
from bgadapters.core.model.payload import loaded, said_in
from bgadapters.core.model.task import FullTask, Wait, examined
from bgadapters.core.sending.errors import RefusedError, RetryLater


def run_received(runtime: Runtime, payload: str, attempt: int) -> None:
    """Run a task that has arrived; see `Engine.run`."""
    try:
        said = json.loads(payload)
        call = loaded(payload, runtime.settings.task_modules)
        known = Known(said["id"], said["queue"], said["added"], attempt)
        options = options_of(runtime, call)
    except BaseException as exc:  # SystemExit too: modules of the application are imported
        refuse(runtime, payload, exc)
    here = options._replace(
        always=False,
        run_on="success",
        delay=0.0,
        run_after=None,
        priority=0,
        key=None,
        durable=False,
        session=None,
        engine=LOCAL,
        send="after_response",
    )
    scheduler = runtime.scheduler
    batch = Batch(call.path, on_lost=scheduler.on_lost, method=call.method)
    task = rebuilt(runtime, batch, call, known, here, examined(call.func))
    arrived = Arrived()
    made = controlled(task, batch, scheduler, [arrived])
    scheduler.admission.admit(batch, made, ())
    scheduler.run_here(batch)
    arrived.check()


def refuse(runtime: Runtime, payload: str, exception: BaseException) -> NoReturn:
    """Have what has arrived fail like any task: it is logged, counted, and the hooks are told.

    Raises:
        RefusedError: always.
    """
    found = said_in(payload)
    options = DEFAULT_OPTIONS._replace(name=found.function or "of which nothing can be read")
    task = FullTask(refuse, (), None, Context(), options)
    batch = Batch(found.path, method=found.method)
    runtime.events.failed(batch, task, exception)
    refusal = RefusedError(f"what has arrived cannot be run here: {exception}")
    raise instrumentation.told(refusal) from exception


class Arrived(Feature, TaskObserver):
    """Notes how an attempt ends, for the engine to hear. The engine makes the next one."""

    __slots__ = ("_failure", "_wait")

    hands_back = True  # to the engine

    def __init__(self) -> None:
        self._failure: BaseException | None = None
        self._wait: Wait | None = None

    @property
    def observer(self) -> TaskObserver:  # type: ignore[override]  # of most it is a constant
        """Itself: it hears how the task ends if it does not succeed."""
        return self

    def on_task_event(self, event: TaskEvent) -> None:
        """The task has not succeeded."""
        self._failure = event.exception or RuntimeError(event.reason or event.kind)

    def on_next_attempt(self, task: ControlledTask, wait: Wait) -> None:  # noqa: ARG002
        """There is to be another attempt."""
        self._wait = wait

    def check(self) -> None:
        """Raise how the attempt has ended, unless it has succeeded.

        Raises:
            RetryLater: it is to be tried again.
            BaseException: what it has raised.
        """
        if self._failure is not None:
            if self._wait is not None:
                raise RetryLater(self._wait.seconds, self._failure)
            raise instrumentation.told(self._failure)
