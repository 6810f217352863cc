"""A connection of a store's own, whatever thread it is used in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, InterfaceError, connections

from bgadapters.adapters import StoreUnavailableError

_ERRORS = (DatabaseError, InterfaceError)
_inherited: list[Any] = []
"""Connections of a parent process, which their collection would end for the parent as well."""


@contextmanager
def told_as_unavailable() -> Iterator[None]:
    """Have what the database raises be a `StoreUnavailableError`."""
    try:
        yield
    except _ERRORS as exc:
        raise StoreUnavailableError(
            f"the database of durable tasks has failed: {type(exc).__name__}: {exc}"
        ) from exc


def was_undone(exception: BaseException) -> bool:
    """Whether a database has ended a transaction that another one stood in the way of."""
    cause = exception.__cause__
    sqlstate, code = getattr(cause, "sqlstate", None), getattr(cause, "args", ())[:1]
    return sqlstate in ("40001", "40P01") or code in ((1213,), (1020,))


@contextmanager
def looking(alias: str) -> Iterator[None]:
    """Use the connection of this thread; close it if it was not open before.

    Raises:
        StoreUnavailableError: as `told_as_unavailable`.
    """
    connection = connections[alias]
    was_open = connection.connection is not None
    try:
        with told_as_unavailable():
            yield
    finally:
        if not (was_open or connection.in_atomic_block):
            connection.close()


class OwnConnection:
    """A connection to one of Django's databases, for one thread at a time.

    It lasts longer than the threads that use it, and longer than ``CONN_MAX_AGE`` says: it is
    no request's. One that the server has closed is opened again.

    Args:
        alias: that of the database.
    """

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: Any = None

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """Be the connection of this thread to that database, during a block.

        Raises:
            StoreUnavailableError: the database is not there, or has refused something.
        """
        theirs = connections[self._alias]
        connection = self._connection = self._connection or self._made(theirs)
        connections[self._alias] = connection
        try:
            with told_as_unavailable():
                connection.close_if_unusable_or_obsolete()
                yield connection
        finally:
            connections[self._alias] = theirs

    def _made(self, theirs: Any) -> Any:
        connection = theirs.copy()
        connection.inc_thread_sharing()
        options: dict[str, Any] = connection.settings_dict.get("OPTIONS") or {}
        if connection.vendor == "sqlite":  # what reads first would not wait for its turn to write
            connection.settings_dict["OPTIONS"] = {**options, "transaction_mode": "IMMEDIATE"}
        if not options.get("pool"):
            connection.settings_dict |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
        return connection

    def close(self) -> None:
        """Close it."""
        if self._connection is not None:
            self._connection.close()

    def forget(self) -> None:
        """In a forked child: leave the parent's alone.

        A file of SQLite is closed: as long as it is open the library takes its locks to be held,
        by which the parent has them. A server would be told of the end, by what they share.
        """
        inherited, self._connection = self._connection, None
        if inherited is None:
            return
        if inherited.vendor == "sqlite":
            inherited.close()
        else:
            _inherited.append(inherited)
