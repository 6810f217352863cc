"""To look at the tasks that a store keeps, and to act on them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.errors import SettingsError
from bgadapters.core.model.payload import said_in
from bgadapters.core.outbox.store import Row, State, Store
from bgadapters.core.outbox.urls import store_of


class StoredTask(NamedTuple):
    """A task that a store keeps.

    Attributes:
        id: that of the task, the same in all attempts; `current_task().id` while it runs.
        name: what logs call it.
        state: ``"waiting"``, also while it runs, or ``"failed"``.
        attempts: how many attempts have ended. Those of a process that has ended do not count.
        crashes: how many processes have ended while they ran it.
        added: when it was added.
        due: the time before which it does not start; None for none.
        ended: when it has failed; None if it has not.
        key: the option ``key``.
        priority: the option ``priority``.
        method: that of the request that has added it; None if it was none.
        path: that of the request.
        error: type and message of what it has failed with; None for none.
        traceback: where that was raised; None for none.
        reason: why it failed, where no exception says so; None for none.
        arguments: what it is called with, as JSON keeps it: ``{"args": [...], "kwargs": {...}}``.
            None unless asked for: arguments may be secrets.
    """

    id: str
    name: str
    state: State
    attempts: int
    crashes: int
    added: datetime
    due: datetime | None
    ended: datetime | None
    key: str | None
    priority: int
    method: str | None
    path: str | None
    error: str | None
    traceback: str | None
    reason: str | None
    arguments: dict[str, Any] | None


class StoredTasks:
    """The durable tasks that a store keeps, for looking at them and acting on them.

    Any thread may use it, beside servers that run these tasks. It blocks while the database works,
    so an event loop should not call it. It neither makes a store nor runs tasks: what it frees or
    retries is run by a process that serves the application, within seconds.

    All methods raise `StoreUnavailableError` where the store is not there or fails.

    Args:
        store: a URL as the setting ``store`` accepts it; a `Store`; or the `Runtime` of an
            application that has this setting.

    Raises:
        SettingsError: it is none of these, or needs a package that is not installed.
    """

    def __init__(self, store: str | Store | Runtime) -> None:
        self._store = store_of(_setting(store))

    def count(self) -> dict[State, int]:
        """Return how many tasks there are in each state, 0 included."""
        found = self._store.count()
        return {state: found.get(state, 0) for state in get_args(State)}

    def list(
        self,
        state: State | None = None,
        limit: int = 100,
        offset: int = 0,
        *,
        arguments: bool = False,
    ) -> list[StoredTask]:
        """Return tasks, those that were added first come first.

        Args:
            state: only those in this state. Default: all.
            limit: how many, at most.
            offset: how many to leave out at the beginning.
            arguments: whether to tell what they are called with.

        Raises:
            ValueError: there is no such state, or a number is negative.
        """
        if state is not None and state not in get_args(State):
            raise ValueError(f"state accepts {_STATES} or None, not {state!r}")
        for name, value in (("limit", limit), ("offset", offset)):
            if value < 0:
                raise ValueError(f"{name} accepts a number from 0, not {value!r}")
        return [_shown(row, arguments) for row in self._store.find(state, limit, offset)]

    def show(self, task_id: str, *, arguments: bool = False) -> StoredTask | None:
        """Return a task; None if it is not there: it has succeeded, or was discarded.

        Args:
            task_id: its id.
            arguments: whether to tell what it is called with.
        """
        row = self._store.get(task_id)
        return None if row is None else _shown(row, arguments)

    def retry(self, task_ids: Iterable[str]) -> int:
        """Have failed tasks run again, as if they had never been tried.

        Args:
            task_ids: their ids. Of other tasks nothing happens.

        Returns:
            How many of them had failed.
        """
        return self._store.retry(_ids(task_ids))

    def discard(self, task_ids: Iterable[str]) -> int:
        """Delete tasks that have failed, or that no living process has.

        Args:
            task_ids: their ids. What a process is about to run stays.

        Returns:
            How many of them were deleted.
        """
        return self._store.discard(_ids(task_ids))

    def purge(self, older_than: timedelta) -> int:
        """Delete what has failed longer ago than that; return how many.

        Raises:
            ValueError: it is negative.
        """
        seconds = older_than.total_seconds()
        if seconds < 0:
            raise ValueError(f"older_than accepts a time from 0, not {older_than!r}")
        return self._store.purge(time.time() - seconds)


_STATES = " or ".join(repr(state) for state in get_args(State))


def _setting(store: Any) -> Any:
    value = store.settings.store if isinstance(store, Runtime) else store
    if isinstance(value, str) or hasattr(value, "take_over"):
        return value
    raise SettingsError(
        f"StoredTasks accepts the URL of a store, a store, or the Runtime of an application with "
        f"the setting 'store', not {store!r}"
    )


def _ids(task_ids: Iterable[str]) -> list[str]:
    if isinstance(task_ids, str):
        raise TypeError(f"accepted is a list of ids, not {task_ids!r}: put it in a list")
    return list(task_ids)


def _shown(row: Row, with_arguments: bool) -> StoredTask:
    said = said_in(row.payload)
    failure: dict[str, str] = {} if row.failure is None else json.loads(row.failure)
    return StoredTask(
        id=row.id,
        name=row.name,
        state=row.state,
        attempts=row.attempt if row.state == "failed" else row.attempt - 1,
        crashes=row.crashes,
        added=datetime.fromtimestamp(row.added, UTC),
        due=_time(row.due),
        ended=_time(row.ended),
        key=row.key,
        priority=row.priority,
        method=said.method,
        path=said.path,
        error=failure.get("error"),
        traceback=failure.get("traceback"),
        reason=failure.get("reason"),
        arguments=said.arguments if with_arguments else None,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
