"""How tasks get into Huey's queue: not by its own storage, which may wait without end."""

from __future__ import annotations

import copy
import sqlite3
import threading
from contextlib import closing
from typing import Any

from huey import Huey, storage

_POSTGRES: Any = getattr(storage, "PostgresStorage", ())  # of Huey 3


def storage_class(huey: Huey) -> Any:
    """Return the class of what keeps the tasks of a Huey, immediate or not."""
    return huey.storage_class or storage.RedisStorage  # as Huey does


def errors_of(kind: Any) -> tuple[type[BaseException], ...]:
    """Return what a storage raises that cannot be reached, is full or locked.

    Args:
        kind: its class.
    """
    if issubclass(kind, storage.SqliteStorage):
        return OSError, sqlite3.Error
    if issubclass(kind, storage.RedisStorage):
        from redis import RedisError

        return OSError, RedisError
    if issubclass(kind, _POSTGRES):
        from psycopg import Error

        return OSError, Error
    return (OSError,)


class Sender:
    """Puts tasks into the queue of a Huey.

    Args:
        huey: the Huey.
        storage: another way to its tasks. Default: its own.
    """

    def __init__(self, huey: Huey, storage: Any = None) -> None:
        self._huey = huey
        self._is_ours = storage is not None
        if self._is_ours:
            self._huey = copy.copy(huey)
            self._huey.storage = storage

    def send(self, task: Any) -> None:
        """Put one of Huey's own tasks there."""
        self._huey.enqueue(task)

    def close(self) -> None:
        """Close what was opened for that."""
        if self._is_ours:
            self._huey.storage.close()
            pool = getattr(self._huey.storage, "pool", None)
            if pool is not None:
                pool.disconnect()


class _SqliteSender(Sender):
    """The same, for one thread at a time, and without a connection between two tasks.

    In a forked child an open one would make SQLite believe that it has the parent's locks.
    """

    def __init__(self, huey: Huey, storage: Any, timeout: float) -> None:
        super().__init__(huey, storage)
        self._timeout = timeout
        self._lock = threading.Lock()

    def send(self, task: Any) -> None:
        if not self._lock.acquire(timeout=self._timeout):
            raise TimeoutError("another task has waited for as long")
        try:
            with closing(self._huey.storage):
                super().send(task)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Nothing is open."""


def sender(huey: Huey, timeout: float) -> Sender:
    """Return what gives up after so many seconds, where it is known how to have Huey do so."""
    kind = storage_class(huey)
    if issubclass(kind, storage.SqliteStorage):
        made = huey.get_storage(**{**huey.storage_kwargs, "timeout": timeout})
        return _SqliteSender(huey, made, timeout)
    if issubclass(kind, storage.RedisStorage):
        return Sender(huey, _redis_storage(huey.storage, timeout))
    if issubclass(kind, _POSTGRES):
        return Sender(huey, _postgres_storage(huey, timeout))
    return Sender(huey)


def _redis_storage(given: Any, timeout: float) -> Any:
    """Return one that does not wait without end; None for one with a pool of a kind of its own."""
    from redis import BlockingConnectionPool, ConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if type(given.pool) not in {ConnectionPool, BlockingConnectionPool}:
        return None
    limits: dict[str, Any] = {
        "socket_connect_timeout": timeout / 2,
        "socket_timeout": timeout / 2,
        "retry": Retry(NoBackoff(), 0),  # what has failed is tried again by us
    }
    made = copy.copy(given)
    made.pool = ConnectionPool(
        given.pool.connection_class, **{**given.pool.connection_kwargs, **limits}
    )
    made.conn = given.redis_client(connection_pool=made.pool)
    return made


def _postgres_storage(huey: Huey, timeout: float) -> Any:
    milliseconds = round(timeout * 1000)
    given = huey.storage_kwargs.get("options") or ""
    limits = {
        "create_tables": False,
        "connect_timeout": max(1, round(timeout / 2)),
        "tcp_user_timeout": milliseconds,
        "options": f"{given} -c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    return huey.get_storage(**{**huey.storage_kwargs, **limits})
