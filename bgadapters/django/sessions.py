"""A task leaves nothing of its own in a connection that the next task in its thread may use.

There are two places for it. A backend that is not Django's own may keep something in its connection
objects, as django-tenants keeps the schema. The database keeps a session for each connection: its
settings, its role, temporary tables, locks. That outlives a task where connections are persistent,
or come from a pool.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from bgadapters.adapters import task_running_here

_CHANGES_ITS_SESSION = re.compile(
    r"""
    (?: ^ | [;'"(] ) \s*  # also at the beginning of what a composed query holds
    (?: SET \b (?! \s+ (?: LOCAL | CONSTRAINTS | TRANSACTION ) \b )
      | (?: RESET | DISCARD | LISTEN | LOAD | PREPARE | ATTACH | USE | DO | CALL ) \b
      | PRAGMA \s+ [\w.]+ \s* =
      | CREATE \s+ (?: (?: GLOBAL | LOCAL ) \s+ )? TEMP
    )
    | \b (?: set_config | pg_(?:try_)?advisory_lock (?:_shared)? | GET_LOCK ) \s* \(
    | \b (?: INTO \s+ TEMP | WITH \s+ HOLD ) \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PLAIN = (str, bytes, int, float, type(None), tuple, list, dict, set, frozenset)


def leave_nothing(connection: Any) -> None:
    """A task has ended that may have used this connection: close it if it has changed it.

    An object that a third party's backend has changed is removed as well.
    """
    end_changed_session(connection)
    first = _own_state(connection.alias)
    if first and _state_of(connection, first) != first:
        connection.close()
        del connections[connection.alias]


def end_changed_session(connection: Any) -> None:
    """End what the database keeps for a connection if a task has changed it.

    A pool would otherwise give it to others as it is when the connection is closed.
    """
    watch = _watch_of(connection)
    if watch is not None and watch.has_changed_it:
        watch.has_changed_it = False
        if connection.connection is not None:
            connection.connection.close()
        connection.close()


@cache
def may_keep_state() -> bool:
    """Whether any backend keeps in its connection objects what Django's own do not."""
    return any(_own_state(alias) for alias in connections)


# What the database keeps.


class _Watch:
    """Sees the queries that are made with a connection, and whether one changes its session.

    It goes by the words of a query: what a function of the database does by itself is not seen.
    """

    def __init__(self) -> None:
        self.has_changed_it = False

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not self.has_changed_it and _CHANGES_ITS_SESSION.search(str(sql)):
            self.has_changed_it = True
        return execute(sql, params, many, context)


def _watch_of(connection: Any) -> _Watch | None:
    return next((each for each in connection.execute_wrappers if isinstance(each, _Watch)), None)


def _watch(*, connection: Any, **_: Any) -> None:
    """A connection was made: watch it if it is a task's and may outlive that."""
    settings: dict[str, Any] = connection.settings_dict
    outlives = settings["CONN_MAX_AGE"] != 0 or settings["OPTIONS"].get("pool")
    if outlives and task_running_here() is not None and _watch_of(connection) is None:
        # The first of all: whoever has entered `execute_wrapper` by now removes the last one.
        connection.execute_wrappers.insert(0, _Watch())


connection_created.connect(_watch, dispatch_uid="bgadapters.django.sessions")


# What connection objects keep.


@cache
def _own_state(alias: str) -> dict[str, Any]:
    """What a backend adds to the attributes of Django's own, as it is in a new object."""
    if connections.settings[alias]["ENGINE"].startswith("django."):
        return {}
    try:
        new: Any = connections.create_connection(alias)
    except Exception:  # its driver is missing: whoever uses it will be told
        return {}
    kind = next(each for each in type(new).__mro__ if each.__module__.startswith("django."))
    if kind is BaseDatabaseWrapper:  # of which there can be no object
        return {}
    known = vars(kind(new.settings_dict, alias))
    return _state_of(new, vars(new).keys() - known.keys())


def _state_of(connection: Any, names: Any) -> dict[str, Any]:
    return {name: _comparable(getattr(connection, name, None)) for name in names}


def _comparable(value: Any) -> Any:
    """Return a value, or what it consists of where nobody can tell whether two are equal."""
    if isinstance(value, _PLAIN):
        return value
    parts = getattr(value, "__dict__", {})
    return type(value), {n: part for n, part in parts.items() if isinstance(part, _PLAIN)}
