"""An engine's own connections, and jobs that are put into the database within a time.

The app's connections are left alone: they may belong to an event loop. A pool of psycopg's would
wait for a database that refuses connections, and for one that does not answer, for ever.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
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

Connection = psycopg.Connection[Any]
Connect = Callable[..., Connection]
"""Opens a connection. It accepts ``connect_timeout``."""

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
"""What is no fault of the job: the database is away, ends, or may only be read now."""

MOST = 8
"""Connections of one engine in one process, at most."""
_LONGEST_IDLE = 60.0  # seconds; what is between may forget a connection that is not used

_inherited: list[Connection] = []
"""Those of a parent process, which are the parent's to close."""


class Pool:
    """Connections to the database of one app.

    Args:
        connector: a connector that makes the statement. It need not be open.
        learn: returns what opens connections. Called when the first job comes; it may take long,
            and raise what psycopg raises.
        timeout: seconds after which a database counts as away that does not answer.
    """

    def __init__(
        self, connector: SyncPsycopgConnector, learn: Callable[[], Connect], timeout: float
    ) -> None:
        self._manager = JobManager(connector)
        self._learn = learn
        self._timeout = timeout
        self._connect: Connect | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._learning = threading.Lock()
        self._places = threading.Semaphore(MOST)
        self._idle: deque[tuple[Connection, float]] = deque()  # and since when

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
        """Close what is idle. Connections are opened again if another job comes."""
        while (connection := self._take_idle()) is not None:
            connection.close()

    def forget(self) -> None:
        """In a forked child: leave the connections to the parent."""
        _inherited.extend(connection for connection, _ in self._idle)
        self._begin_anew()

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
            self.close()  # nobody answers on the others either
            raise EngineUnavailableError(f"its database has not answered in {self._timeout:g} s")

    def _put(self, putting: _Putting) -> None:
        try:
            with _away(), _acquired(self._places, putting):
                self._put_over_some(putting)
        except BaseException as exc:
            putting.ended.set_exception(exc)
        else:
            putting.ended.set_result(None)

    def _put_over_some(self, putting: _Putting) -> None:
        """Use an idle connection, or a new one if there is none that is still good."""
        while (idle := self._take_idle()) is not None:
            try:
                self._put_over(idle, putting)
            except (psycopg.Error, ConnectorException):
                if not idle.closed:
                    raise
                putting.check()
            else:
                return
        if self._connect is None:
            with _acquired(self._learning, putting):
                self._connect = self._learn()
        self._put_over(self._connect(connect_timeout=math.ceil(self._timeout)), putting)

    def _put_over(self, connection: Connection, putting: _Putting) -> None:
        try:
            with putting.using(connection), connection.transaction():
                putting.check()
                self._manager.defer_job(putting.job, connection=connection)
                putting.check()
        finally:
            if not connection.closed:
                self._idle.append((connection, monotonic()))

    def _take_idle(self) -> Connection | None:
        """Return an idle connection; None if there is none."""
        with suppress(IndexError):
            while True:
                connection, since = self._idle.pop()
                if monotonic() - since < _LONGEST_IDLE:
                    return connection
                connection.close()
        return None


class _Putting:
    """A job on its way into the database.

    Args:
        job: the job.
        deadline: when it should be there, by `monotonic`.

    Attributes:
        job, deadline: as given.
        ended: what came of it.
    """

    def __init__(self, job: Job, deadline: float) -> None:
        self.job = job
        self.deadline = deadline
        self.ended: Future[None] = Future()
        self._lock = threading.Lock()
        self._is_given_up = False  # guarded by _lock
        self._connection: Connection | None = None  # guarded by _lock

    @contextmanager
    def using(self, connection: Connection) -> Iterator[None]:
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


def learned_from(connector: SyncPsycopgConnector) -> Connect:
    """Return what opens connections as a connector does. Only a pool that is open tells.

    Args:
        connector: one that is not open; a copy is opened, and closed again.
    """
    own = copy(connector)
    try:
        own.open()
        pool = own.pool
        conninfo, kwargs = _called(pool.conninfo), _called(pool.kwargs) or {}
        connect = pool.connection_class.connect
    finally:
        own.close()

    def connect_as_it_does(**more: Any) -> Connection:
        return connect(conninfo, **{**kwargs, **more})

    return connect_as_it_does


def _called(value: Any) -> Any:
    return value() if callable(value) else value


@contextmanager
def _acquired(lock: threading.Lock | threading.Semaphore, putting: _Putting) -> Iterator[None]:
    """Hold a lock, if that can be had in time."""
    if not lock.acquire(timeout=max(0.0, putting.deadline - monotonic())):
        raise EngineUnavailableError("others still wait for its database")
    try:
        yield
    finally:
        lock.release()


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
