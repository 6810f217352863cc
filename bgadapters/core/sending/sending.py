"""What is done for a task with the option ``engine``, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.control import Feature
from bgadapters.core.model.options import Options, TaskOptions
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.task import Task, callable_name
from bgadapters.core.sending.before import BeforeResponse, ended_before
from bgadapters.core.sending.elsewhere import ElsewhereCall, InPlace
from bgadapters.core.sending.engine import Message, RunningEngine, SentByCommit
from bgadapters.core.sending.engines import Named, Route, engines_of
from bgadapters.core.sending.errors import KeyIsTaken
from bgadapters.core.sending.message import check_message, dated, message_of
from bgadapters.core.sending.sent import GivesBack, Sent
from bgadapters.core.sending.trying import where


class Sending:
    """One task for an engine on its way into a queue.

    In a test it is a plain one, of which is checked that it could be sent.

    Args:
        runtime: its application.
        given: the options that were given at the call.
        options: all of its options.
        func: what is to be called.
        is_async: whether that belongs on an event loop.

    Attributes:
        options: those that the task has in this process.
        func: what is to be called in this process.
        is_async: whether that belongs on an event loop.

    Raises:
        TypeError: there is no such engine, or it cannot do what the options ask for.
        NotPortableError: the function may not be called where it arrives.
    """

    def __init__(
        self, runtime: Runtime, given: TaskOptions, options: Options, func: Any, is_async: bool
    ) -> None:
        self._runtime, self._given, self._all = runtime, given, options
        self._route = _route_of(engines_of(runtime).route(options.engine), func)
        self._feature: Sent | None = None
        self._message: Message | None = None
        self._left_out: str | None = None  # why, of one for the transaction that is open here
        self._commit: SentByCommit | None = None  # which sends it
        self.func, self.is_async, self.options = func, is_async, options
        named = self._route.first
        for each in (named, *self._route.others):
            if each is not None:
                check_message(each, func, options, runtime.settings.task_modules)
                _check_acknowledges(each, func, options)
        _check_send(named.engine, func, options)
        self._is_sent = mode.active is mode.SERVING
        if self._is_sent:
            if isinstance(named.engine, RunningEngine):
                self.func, self.is_async = ElsewhereCall(func, named.engine, named.name), True
            else:
                self.options, self.is_async = _options_here(options, self._route), False
                if options.send == "in_transaction":  # which alone decides about it
                    self.options = self.options._replace(
                        always=True, run_on="always", on_commit=False
                    )

    def features(self, kept: GivesBack | None = None) -> Sequence[Feature]:
        """Return what the task has beside its options.

        Args:
            kept: its row, if it is durable. Default: it is not.
        """
        if type(self.func) is ElsewhereCall:
            return (InPlace(self.func),)
        if not self._is_sent:
            return ()
        self._feature = Sent(self._runtime, self._route, kept)
        return (self._feature,)

    def prepare(self, batch: Batch, task: Task) -> Sequence[Precondition]:
        """Make what is sent; in the transaction that is open here, send it.

        Returns:
            What it waits for: the commit that sends it.

        Raises:
            NotPortableError, TypeError: it cannot be sent.
            Exception: what the engine raises in that transaction.
        """
        runtime, engine = self._runtime, self._route.first.engine
        message = message_of(runtime, task, batch, self._all, self._given, self._route.first)
        if type(self.func) is ElsewhereCall:
            self.func.payload = message.payload
        if self._feature is not None:
            self._feature.message = self._message = message
            if self._all.send == "in_transaction":
                try:
                    commit = engine.send_in_transaction(dated(message), self._all.session)
                except KeyIsTaken as exc:
                    self._left_out = str(exc)
                else:
                    self._commit = self._feature.commit = commit
        return () if self._commit is None else (self._commit,)

    def added(self, batch: Batch, task: Task, is_of_response: bool) -> None:
        """It was put into a batch: have it sent before its response, or tell that it was sent.

        Args:
            batch: the batch.
            task: the task.
            is_of_response: whether that is the batch of the response being made.
        """
        if self._message is None or self._commit is not None:
            return
        if self._all.send == "in_transaction":
            left_out, sent = self._left_out, where(self._route.first)
            if left_out is None:
                ended_before(self._runtime, batch, task, "sent", sent)
            else:
                ended_before(self._runtime, batch, task, "replaced", left_out)
        elif self._all.send == "before_response" and is_of_response and not batch.is_live:
            before = BeforeResponse(self._runtime, batch, task, self._message, self._route)
            batch.confirm_with(task, before)


def _check_send(engine: Any, func: Any, options: Options) -> None:
    kind, send = type(engine).__name__, options.send
    what = f"cannot add {callable_name(func)} with engine={options.engine!r} and send={send!r}"
    if send == "in_transaction" and "transaction" not in engine.abilities:
        raise TypeError(f"{what}: {kind} takes no part in transactions")
    if send != "after_response" and options.durable:
        raise TypeError(
            f"{what}: with durable=True a task is kept before the response begins, and sent after "
            "it. Leave one of them away"
        )


def _check_acknowledges(named: Named, func: Any, options: Options) -> None:
    # A durable task whose engine this process waits for stays in its store until it has run.
    engine, send = named.engine, options.send
    has_to_survive = (
        not isinstance(engine, RunningEngine) if options.durable else send == "before_response"
    )
    if has_to_survive and not engine.acknowledges:
        what = f"cannot add {callable_name(func)} with engine={named.name!r} and send={send!r}"
        what += " and durable=True" if options.durable else ""
        kind = type(engine).__name__
        raise TypeError(f"{what}: {kind} does not tell whether a task would survive")


def _route_of(route: Route, func: Any) -> Route:
    """Return what gets a task: an object of an engine's own goes to no engine of another kind."""
    if not route.first.engine.owns(func):
        return route
    others = (each for each in route.others if each is None or each.engine.owns(func))
    return route._replace(others=tuple(others))


def _options_here(options: Options, route: Route) -> Options:
    """Return what is left of the options of a task that is sent: the engine has the others."""
    here = options._replace(
        delay=0.0, run_after=None, priority=0, key=None, concurrency=None, session=None
    )
    return here if None in route.others else here._replace(retries=0, timeout=None)
