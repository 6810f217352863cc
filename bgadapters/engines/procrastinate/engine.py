"""Sends tasks as jobs of Procrastinate, and runs those that arrive."""

from __future__ import annotations

import json
from asyncio import CancelledError
from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import psycopg
from procrastinate import (
    App,
    BaseRetryStrategy,
    JobContext,
    PsycopgConnector,
    RetryDecision,
    SyncPsycopgConnector,
)
from procrastinate.blueprints import Blueprint
from procrastinate.exceptions import AlreadyEnqueued, AppNotOpen
from procrastinate.jobs import Job
from procrastinate.tasks import Task

from bgadapters.adapters import Arrivals, Call, Options, as_failure, callable_name
from bgadapters.engines import (
    Ability,
    Engine,
    KeyIsTaken,
    Message,
    RetryLater,
    SentByCommit,
)
from bgadapters.engines.procrastinate.pool import Connect, Pool, learned_from
from bgadapters.engines.procrastinate.transaction import (
    is_asynchronous,
    put_with,
    put_with_django,
    taken,
)

TASK = "bgadapters.run"
"""The task of Procrastinate by which all functions run."""

_DJANGOS_APP = "procrastinate.contrib.django.app"


class ProcrastinateEngine(Engine):
    """Tasks become jobs of Procrastinate, in PostgreSQL; its workers run them.

    ``docs/engines-procrastinate.md`` says what is kept and what is not. A worker has to import the
    module in which the engine is made.

    Args:
        app: the App of Procrastinate, or its dotted import path. It need not be open. Default: the
            one that ``procrastinate.contrib.django`` makes.
        queue: the queue of Procrastinate into which functions go. Default: ``"default"``.
        failover, timeout, patience: as of `Engine`.

    Raises:
        TypeError: there is no such app, or one of the arguments is none that is accepted.
    """

    abilities: ClassVar[frozenset[Ability]] = frozenset(
        {"retries", "timeout", "delay", "priority", "key", "transaction"}
    )

    def __init__(
        self,
        app: App | str | None = None,
        *,
        queue: str = "default",
        failover: Sequence[str] = (),
        timeout: float = 5.0,
        patience: float = 10.0,
    ) -> None:
        super().__init__(failover=failover, timeout=timeout, patience=patience)
        given: Any = queue
        if not isinstance(given, str) or not given:
            raise TypeError(f"queue= accepts the name of a queue of Procrastinate, not {given!r}")
        self.queue = queue
        self._app = _app_of(app)
        self._task = _registered(self._app)
        self.arrivals = self._task.func.arrivals
        self._pool: Pool | None = None
        if isinstance(self._app, App):  # Django's is made when its applications are ready
            self._pool = _pool_for(self._app, self.timeout)

    def owns(self, func: Any) -> bool:
        """A task of Procrastinate is sent as itself."""
        return isinstance(func, Task)

    def check(self, func: Any, options: Options) -> None:
        """Refuse what Procrastinate does otherwise."""
        if options.key is not None and options.on_duplicate != "keep":
            raise TypeError(
                f"cannot add {callable_name(func)} with key={options.key!r} and "
                "on_duplicate='replace': Procrastinate keeps the job that waits. Write "
                "on_duplicate='keep'"
            )
        if not _is_kept_as_text(options.key):
            raise TypeError(
                f"cannot add {callable_name(func)} with key={options.key!r}: PostgreSQL has no "
                "such text. Leave NUL and lone surrogates away"
            )
        if options.key is not None and options.retries:
            raise TypeError(
                f"cannot add {callable_name(func)} with key={options.key!r} and "
                f"retries={options.retries}: Procrastinate cannot have a job wait again while "
                "another one with its key does. Leave one of them away"
            )
        if self.owns(func):
            self._check_own(func, options)

    def _check_own(self, task: Any, options: Options) -> None:
        if options.retries or options.timeout is not None:
            raise TypeError(
                f"cannot add {task.name} with retries= or timeout=, as it is a task of "
                "Procrastinate's own: write @app.task(retry=...)"
            )
        if task.name not in self._app.tasks:
            raise TypeError(f"cannot add {task.name}: it is no task of the app of this engine")

    def check_call(self, call: Call) -> None:
        """Refuse arguments that Procrastinate cannot send."""
        name = call.func.name
        if call.args:
            raise TypeError(
                f"cannot add {name} with positional arguments: Procrastinate sends keyword "
                "arguments alone. Write add_task(task, name=value)"
            )
        dumps = getattr(self._app.connector, "json_dumps", None) or json.dumps
        try:
            dumped = dumps(call.kwargs)
        except (TypeError, ValueError) as exc:
            raise TypeError(f"cannot add {name} with arguments that are no JSON: {exc}") from exc
        if not _is_kept_as_text(json.loads(dumped)):
            raise TypeError(
                f"cannot add {name} with NUL or lone surrogates in its arguments: PostgreSQL has "
                "no such text"
            )

    def send(self, message: Message) -> None:
        """Put a job into the database."""
        job, pool = self._job(message), self._pool_here()
        try:
            if pool is not None:
                pool.put(job)
            else:
                self._app.job_manager.defer_job(job)
        except AlreadyEnqueued as exc:
            raise KeyIsTaken(taken(job)) from exc

    async def asend(self, message: Message) -> None:
        """Do as `send`, without blocking the event loop."""
        pool = self._pool_here()
        if pool is None:
            await super().asend(message)
            return
        job = self._job(message)
        try:
            await pool.aput(job)
        except AlreadyEnqueued as exc:
            raise KeyIsTaken(taken(job)) from exc

    def send_in_transaction(self, message: Message, session: Any) -> SentByCommit | None:
        """Put a job into the database in a transaction that is open here, or have it put there."""
        job = self._job(message)
        alias = _alias_of(self._app)
        try:
            if is_asynchronous(session):
                from bgadapters.engines.procrastinate.session import put_at_commit

                return put_at_commit(session, job, self._app.connector.json_dumps)
            if session is not None:
                put_with(session, job)
            elif alias is not None:
                put_with_django(self._app.job_manager, alias, job)
            else:
                raise TypeError(
                    "send='in_transaction' asks for options(session=...): the session of "
                    "SQLAlchemy, or the connection of psycopg, that has the transaction"
                )
        except AlreadyEnqueued as exc:
            raise KeyIsTaken(taken(job)) from exc
        return None

    def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            self._pool.close()

    def reset_after_fork(self) -> None:
        """Leave the connections to the parent."""
        if self._pool is not None:
            self._pool.forget()

    def _job(self, message: Message) -> Job:
        options = message.options
        task, queue, kwargs = self._task, self.queue, {"payload": message.payload}
        if self.owns(message.call.func):
            task, kwargs = message.call.func, message.call.kwargs
            queue = task.queue
        due = None if message.due is None else datetime.fromtimestamp(message.due, UTC)
        job: Job = task.configure(
            queue=queue,
            task_kwargs=kwargs,
            schedule_at=due,
            priority=options.priority or None,
            queueing_lock=options.key,
        ).job
        return job

    def _pool_here(self) -> Pool | None:
        """Return the engine's own connections; None where the app's connector has none."""
        if self._pool is None:
            self._pool = _pool_for(self._app, self.timeout)
        return self._pool


class _Runner:
    """The function of the task, which is that of all engines of its app."""

    def __init__(self) -> None:
        self.arrivals = Arrivals("one app of Procrastinate")

    def __call__(self, context: JobContext, payload: str) -> None:
        """Run what a job says, in a thread of a worker of Procrastinate."""
        try:
            self.arrivals.run(payload, context.job.attempts + 1)
        except CancelledError as exc:  # Procrastinate would have it for a job that was aborted
            raise as_failure(exc) from exc


class _Again(BaseRetryStrategy):
    """The next attempt is made by Procrastinate, when the task has asked for it."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002
        """Return when that is; None if the task has failed for good."""
        if not isinstance(exception, RetryLater):
            return None
        return RetryDecision(retry_at=datetime.now(UTC) + timedelta(seconds=exception.seconds))


def _registered(app: Any) -> Any:
    """Return the task of an app by which functions run."""
    task = app.tasks.get(TASK)
    if task is None:
        task = app.task(name=TASK, pass_context=True, retry=_Again())(_Runner())
    return task


def _app_of(app: Any) -> Any:
    found = _DJANGOS_APP if app is None else app
    if isinstance(found, str):
        module, _, name = found.replace(":", ".").rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise TypeError(f"app= accepts an App of Procrastinate or its path: {exc}") from exc
    if isinstance(found, Blueprint) and not isinstance(found, App):
        raise TypeError(f"app= accepts an App of Procrastinate, not the blueprint {found!r}")
    if not callable(getattr(found, "configure_task", None)):
        raise TypeError(f"app= accepts an App of Procrastinate or its path, not {app!r}")
    return found


def _pool_for(app: Any, timeout: float) -> Pool | None:
    """Return connections to the database of an app; None if it is reached otherwise."""
    alias = _alias_of(app)
    if alias is not None:
        from procrastinate.contrib.django import connector_params

        def learn() -> Connect:
            return partial(psycopg.Connection.connect, **connector_params(alias))

        return Pool(SyncPsycopgConnector(), learn, timeout)
    found = app.connector.get_sync_connector()
    if isinstance(found, PsycopgConnector) or _is_open(found):
        raise TypeError(
            "the app of Procrastinate is open. The engine has connections of its own: make it "
            "before the app is opened, or leave open() away"
        )
    if not isinstance(found, SyncPsycopgConnector):
        return None
    unopened = copy(found)
    return Pool(unopened, lambda: learned_from(unopened), timeout)


def _is_open(connector: Any) -> bool:
    try:
        return isinstance(connector, SyncPsycopgConnector) and bool(connector.pool)
    except AppNotOpen:
        return False


def _alias_of(app: Any) -> str | None:
    """Return the database of Django that an app uses; None if it uses none of those."""
    alias: str | None = getattr(app.connector, "alias", None)
    return alias


def _is_kept_as_text(value: Any) -> bool:
    """Whether PostgreSQL can keep all text in what JSON says."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= each <= "\udfff" for each in value)
    if isinstance(value, dict):
        return all(map(_is_kept_as_text, (*value, *value.values())))
    return not isinstance(value, list) or all(map(_is_kept_as_text, value))
