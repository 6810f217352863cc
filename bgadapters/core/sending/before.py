"""A task that an engine has to have before the response begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from bgadapters.core.app.runtime import Runtime, SentBefore
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.errors import EngineUnavailableError
from bgadapters.core.model.task import Task
from bgadapters.core.sending.engine import Message
from bgadapters.core.sending.engines import Named, Route
from bgadapters.core.sending.errors import KeyIsTaken
from bgadapters.core.sending.message import dated
from bgadapters.core.sending.trying import back, down, trying, where


def ended_before(
    runtime: Runtime, batch: Batch, task: Task, outcome: Literal["sent", "replaced"], how: str
) -> None:
    """A task was sent before its turn came, or another one with its key was: that is its end."""
    runtime.admission.retract(batch, task)
    task.context.copy().run(runtime.events.not_run, batch, task, outcome, how)


class BeforeResponse(SentBefore):
    """One such task, as its response sees it.

    Args:
        runtime: its application.
        batch: what it was added to.
        task: the task.
        message: what is sent.
        route: what gets it. This process does not: it would be lost with it.
    """

    def __init__(
        self, runtime: Runtime, batch: Batch, task: Task, message: Message, route: Route
    ) -> None:
        self._runtime = runtime
        self._batch = batch
        self._task = task
        self._message = message
        self._route = route

    def send(self) -> None:
        """Send it in this thread.

        Raises:
            EngineUnavailableError: no engine has taken it.
        """
        self._message = dated(self._message)
        for named in self._engines():  # pragma: no branch  what the last one raises is raised
            try:
                with trying(self._message, named) as came_up:
                    named.engine.send(self._message)
            except EngineUnavailableError as exc:
                self._missed(named, exc)
            except KeyIsTaken as exc:
                self._ended("replaced", str(exc))
                break
            else:
                self._was_sent(named, came_up())
                break

    async def asend(self) -> None:
        """Do as `send`, without blocking the event loop."""
        self._message = dated(self._message)
        for named in self._engines():  # pragma: no branch  what the last one raises is raised
            try:
                with trying(self._message, named) as came_up:
                    await named.engine.asend(self._message)
            except EngineUnavailableError as exc:
                self._missed(named, exc)
            except KeyIsTaken as exc:
                self._ended("replaced", str(exc))
                break
            else:
                self._was_sent(named, came_up())
                break

    def _engines(self) -> Iterator[Named]:
        yield self._route.first
        yield from (each for each in self._route.others if each is not None)

    def _missed(self, named: Named, error: EngineUnavailableError) -> None:
        *_, last = self._engines()
        if named is last:
            raise error
        if named is self._route.first and named.health.went_down():
            self._tell("engine_down", down(self._route, error))

    def _was_sent(self, named: Named, came_up: bool) -> None:
        if came_up:
            self._tell("engine_back", back(named))
        self._ended("sent", where(named))

    def _ended(self, outcome: Literal["sent", "replaced"], how: str) -> None:
        ended_before(self._runtime, self._batch, self._task, outcome, how)

    def _tell(self, kind: Literal["engine_down", "engine_back"], what: str) -> None:
        tell = self._runtime.events.engine_changed
        self._task.context.copy().run(tell, self._batch, self._task, kind, what)
