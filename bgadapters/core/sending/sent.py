"""A task for an engine in memory: its turn is that of being sent."""

from __future__ import annotations

import time
from typing import Literal, Protocol

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.control import Around, ControlledTask, Feature, NotToRun
from bgadapters.core.model.errors import EngineUnavailableError
from bgadapters.core.model.task import Wait
from bgadapters.core.sending.engine import Message, SentByCommit
from bgadapters.core.sending.engines import Named, Route
from bgadapters.core.sending.errors import KeyIsTaken
from bgadapters.core.sending.message import dated
from bgadapters.core.sending.trying import back, down, trying, where

_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 0.5, 5.0  # seconds; doubled from one to the other
_AGAIN = 30.0  # seconds after which a task is sent again that is kept in a store


class GivesBack(Protocol):
    """The row of a durable task."""

    def give_back(self, task: ControlledTask, seconds: float) -> bool:
        """Leave the next attempt to whoever finds the row; False if it has none."""
        ...


class Sent(Feature):
    """Sends one task instead of calling it.

    Args:
        runtime: its application.
        route: what gets it: the first that takes it.
        kept: its row, if it is durable. Default: it is not.

    Attributes:
        message: what is sent. To be set before its turn comes.
        commit: what has sent it by the time its turn comes; None if nothing has.
    """

    __slots__ = ("_began", "_is_local", "_kept", "_route", "_runtime", "commit", "message")

    message: Message
    commit: SentByCommit | None

    def __init__(self, runtime: Runtime, route: Route, kept: GivesBack | None = None) -> None:
        self._runtime = runtime
        self._route = route
        self._kept = kept
        self._began: float | None = None  # when it was tried first, by `monotonic`
        self._is_local = False  # whether it was found that it runs here
        self.commit = None

    @property
    def is_sent(self) -> bool:  # type: ignore[override]  # of others it is a constant
        """Whether it does not run in this process, as far as is known."""
        return not self._is_local

    def around(self, task: ControlledTask, is_async: bool) -> Around | None:
        """Send it. If it is for this process after all, return, and it is called.

        Raises:
            NotToRun: it was sent, or another one with its key waits there.
            EngineUnavailableError: it could not be sent.
        """
        if self.commit is not None:
            if self.commit.left_out is not None:
                raise NotToRun("replaced", self.commit.left_out)
            raise NotToRun("sent", where(self._route.first))
        if not (self._is_local or is_async):
            if self._began is None:
                self._began, self.message = time.monotonic(), dated(self.message)
            first = self._route.first
            error = self._try(task, first)
            if not self._is_to_be_given_up():
                raise error
            if first.health.went_down():
                self._tell(task, "engine_down", down(self._route, error))
            self._send_elsewhere(task, error)
        return None

    def _is_to_be_given_up(self) -> bool:
        """Whether its engine is tried no more."""
        runtime, first = self._runtime, self._route.first
        if first.health.is_down and (self._route.others or self._kept is not None):
            return True
        patience = min(first.engine.patience, runtime.drain_timeout)
        began = time.monotonic() if self._began is None else self._began
        return time.monotonic() - began >= patience

    def _send_elsewhere(self, task: ControlledTask, error: EngineUnavailableError) -> None:
        """Its engine is down: send it to another one, or return if it is to be called here."""
        for each in self._route.others:
            if each is None:
                self._begin_here(task)
                return
            error = self._try(task, each)
        if self._kept is not None and self._kept.give_back(task, _AGAIN):
            raise NotToRun("abandoned", f"it stays in the store, to be sent later: {error}")
        raise error

    def _try(self, task: ControlledTask, named: Named) -> EngineUnavailableError:
        """Send it to an engine; return why that cannot be done.

        Raises:
            NotToRun: it was sent, or another one with its key waits there.
        """
        try:
            with trying(self.message, named) as came_up:
                named.engine.send(self.message)
        except EngineUnavailableError as exc:
            return exc
        except KeyIsTaken as exc:
            raise NotToRun("replaced", str(exc)) from exc
        if came_up():
            self._tell(task, "engine_back", back(named))
        raise NotToRun("sent", where(named))

    def _begin_here(self, task: ControlledTask) -> None:
        """It runs in this process, at its time. What was tried to send it is no attempt of its own.

        Raises:
            _NotYet: it is not time.
        """
        self._is_local = True
        options, due = task.options, self.message.due
        task.options = options._replace(retries=options.retries + task.attempt - 1)
        if due is not None and due > time.time():
            raise _NotYet(due - time.time())
        batch: Batch | None = owner.get()
        if batch is not None and self._runtime.events.has_listeners():
            self._runtime.events.started(batch, task)

    def next_attempt(self, task: ControlledTask, exception: BaseException) -> Wait | None:
        """It is tried again to send it, for a while. How often the task runs is another matter."""
        if isinstance(exception, _NotYet):
            task.options = task.options._replace(retries=task.options.retries + 1)
            return Wait(exception.seconds, is_asked_for=True, is_news=False)
        is_unsent = isinstance(exception, EngineUnavailableError) and not self._is_local
        if not is_unsent or self._is_to_be_given_up():
            return None
        seconds = min(_FIRST_BACK_OFF * 2.0 ** min(task.attempt - 1, 9), _LONGEST_BACK_OFF)
        # A drain waits for it: to try at once what is tried by one task a second is no use.
        return Wait(seconds, is_asked_for=True, is_news=self._route.first.health.is_news())

    def _tell(
        self, task: ControlledTask, kind: Literal["engine_down", "engine_back"], what: str
    ) -> None:
        batch: Batch | None = owner.get()
        if batch is not None:  # pragma: no branch  the task is having its turn
            self._runtime.events.engine_changed(batch, task, kind, what)


class _NotYet(Exception):  # noqa: N818  it is no error
    """Its engine is down, and it runs here, at its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__("its engine is down, and it runs in this process when it is time")
        self.seconds = seconds
