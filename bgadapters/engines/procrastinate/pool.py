"""An engine's own connections, and jobs that are put into the database within a time.

The app's own connections are left alone: they may belong to an event loop, and nobody could get
rid of them where the database does not answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from copy import copy
from time import monotonic
from typing import Any

import psycopg
from procrastinate import SyncPsycopgConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

from bgadapters.adapters import EngineUnavailableError

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
"""What is no fault of the job: the database is away, ends, or may only be read now."""

_inherited: list[SyncPsycopgConnector] = []
"""Those of a parent process: to close them, or to have them collected, would disturb the parent."""


class Pool:
    """Connections to the database of one app, opened when the first job comes.

    Args:
        connector: one that is not open. It stays so: its copies are opened.
        timeout: seconds after which a database counts as away that does not answer.
    """

    def __init__(self, connector: SyncPsycopgConnector, timeout: float) -> None:
        self._connector = connector
        self._timeout = timeout
        self._opening = threading.Lock()
        self._opened: SyncPsycopgConnector | None = None

    def put(self, job: Job) -> None:
        """Put a job into the database.

        Raises:
            EngineUnavailableError: the database is away, or has not answered in time.
        """
        putting = self._begin(job)
        wait([putting.ended], self._timeout)
        self._end(putting)

    async def aput(self, job: Job) -> None:
        """Do as `put`, without blocking the event loop."""
        putting = self._begin(job)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: Any) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(ended.set)

        putting.ended.add_done_callback(tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                await ended.wait()
        self._end(putting)

    def close(self) -> None:
        """Close the connections. They are opened again if another job comes."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def forget(self) -> None:
        """In a forked child: leave the connections to the parent."""
        self._opening = threading.Lock()
        if self._opened is not None:
            _inherited.append(self._opened)
            self._opened = None

    def _begin(self, job: Job) -> _Putting:
        """Have a thread put a job into the database: one on which nobody has to wait for ever."""
        putting = _Putting(job, monotonic() + self._timeout)
        thread = threading.Thread(target=self._put, args=(putting,), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, and starts no threads any more
            self._put(putting)
        return putting

    def _end(self, putting: _Putting) -> None:
        """Raise what has come of it."""
        if putting.ended.done():
            putting.ended.result()
        else:
            putting.give_up()
            self._renew(putting)
            raise EngineUnavailableError(f"its database has not answered in {self._timeout:g} s")

    def _put(self, putting: _Putting) -> None:
        try:
            with _away():
                putting.connector = self._open(putting.deadline)
                _put_over(putting.connector, putting)
        except BaseException as exc:
            putting.ended.set_exception(exc)
        else:
            putting.ended.set_result(None)

    def _open(self, deadline: float) -> SyncPsycopgConnector:
        """Return the connector, open.

        A pool that cannot connect gives up after half a minute, whatever its timeout. One thread
        waits so long for it, and the others as long as they may.
        """
        if not self._opening.acquire(timeout=max(0.0, deadline - monotonic())):
            raise EngineUnavailableError("there is no connection to its database yet")
        try:
            if self._opened is None:
                connector = copy(self._connector)
                try:
                    connector.open()
                except BaseException:
                    connector.close()
                    raise
                self._opened = connector
            return self._opened
        finally:
            self._opening.release()

    def _renew(self, putting: _Putting) -> None:
        """Do without the connections on which nobody answers."""
        connector = putting.connector
        if connector is not None and connector is self._opened:
            self._opened = None
            with suppress(RuntimeError):  # the interpreter ends
                threading.Thread(target=connector.close, daemon=True).start()


class _Putting:
    """A job on its way into the database.

    Args:
        job: the job.
        deadline: when it should be there, by `monotonic`.

    Attributes:
        job, deadline: as given.
        connector: what it is sent with; None if that is not known yet.
        ended: what came of it.
    """

    def __init__(self, job: Job, deadline: float) -> None:
        self.job = job
        self.deadline = deadline
        self.connector: SyncPsycopgConnector | None = None
        self.ended: Future[None] = Future()
        self._lock = threading.Lock()
        self._is_given_up = False  # guarded by _lock
        self._connection: psycopg.Connection[Any] | None = None  # guarded by _lock

    @contextmanager
    def using(self, connection: psycopg.Connection[Any]) -> Iterator[None]:
        """Surround the use of a connection, which may be broken meanwhile."""
        with self._lock:
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def check(self) -> None:
        """Raise if nobody waits for it any more: nobody would know that it is there."""
        with self._lock:
            if self._is_given_up:
                raise EngineUnavailableError("its database has answered too late")

    def give_up(self) -> None:
        """Do not wait for it any more, and break the connection on which a thread waits."""
        with self._lock, suppress(OSError, psycopg.Error):
            self._is_given_up = True
            if self._connection is not None:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as there:
                    there.shutdown(socket.SHUT_RDWR)


def _put_over(connector: SyncPsycopgConnector, putting: _Putting) -> None:
    connection = connector.pool.getconn(max(0.0, putting.deadline - monotonic()))
    try:
        with putting.using(connection), connection.transaction():
            putting.check()
            JobManager(connector).defer_job(putting.job, connection=connection)
            putting.check()
    finally:
        connector.pool.putconn(connection)


@contextmanager
def _away() -> Iterator[None]:
    """Surround what uses the database.

    Raises:
        EngineUnavailableError: it is away.
    """
    try:
        yield
    except (ConnectorException, psycopg.Error) as exc:
        error = exc.__cause__ if isinstance(exc, ConnectorException) else exc
        if isinstance(error, _AWAY):
            raise EngineUnavailableError(f"its database is away: {error}") from exc
        raise
