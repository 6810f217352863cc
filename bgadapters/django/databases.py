"""The connections of the threads that tasks use are treated as a request's are.

A worker's connections are those of its tasks. A thread of somebody else's, which runs tasks where
no other can be had, keeps its own: they are put aside, as they are, and put back.

Looking for connections costs more than all else around a task. So it is done only where there may
be some.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.signals import connection_created

from bgadapters.adapters import log, loop_runs_here, mode, runs_in_worker
from bgadapters.django import sessions

T = TypeVar("T")


class _Thread(threading.local):
    """What is known of the connections of a thread."""

    may_have_some = True
    is_at_work = False  # on a task or a hook


_thread = _Thread()


def _note_connection(**_: Any) -> None:
    _thread.may_have_some = True


connection_created.connect(_note_connection, dispatch_uid="bgadapters.django")


def _initialized() -> Sequence[Any]:
    found: Sequence[Any] = connections.all(initialized_only=True)
    return found


def in_use() -> Sequence[Any]:
    """Return the connections of this thread, if any was opened here since none was seen to be."""
    if loop_runs_here():  # where Django keeps them by asyncio task
        return _initialized()
    if not _thread.may_have_some:
        return ()
    found = _initialized()
    _thread.may_have_some = any(connection.connection is not None for connection in found)
    return found


# In a worker.


def is_free_worker() -> bool:
    """Whether this is a worker thread, and at work on nothing."""
    return runs_in_worker() and not _thread.is_at_work


def begin_work() -> None:
    """Do as Django does before a request."""
    _thread.is_at_work = True
    for connection in in_use():
        connection.close_if_unusable_or_obsolete()


def end_work() -> None:
    """Do as Django does after a request, and end what the task has begun and not ended."""
    try:
        if _thread.may_have_some or sessions.may_keep_state():
            for connection in _initialized():
                if not _is_left_in_a_transaction(connection):
                    sessions.leave_nothing(connection)
                    connection.close_if_unusable_or_obsolete()
            _note_what_is_open()
    finally:
        _thread.is_at_work = False


@contextmanager
def at_work() -> Iterator[None]:
    """Be a worker thread that somebody uses, during a block."""
    _thread.is_at_work = True
    try:
        yield
    finally:
        _thread.is_at_work = False


def _is_left_in_a_transaction(connection: Any) -> bool:
    """Whether a task has begun a transaction and not ended it; then nothing is left of either."""
    if not connection.in_atomic_block:
        return False
    log(
        logging.WARNING,
        "A background task has left a transaction open on the database %r: it is rolled back",
        connection.alias,
    )
    _remove(connection)  # once closed in a block it cannot be used any more
    return True


def _remove(connection: Any) -> None:
    with suppress(Exception):  # it is broken, and gone all the same
        sessions.end_changed_session(connection)
        connection.close()
    del connections[connection.alias]


def _note_what_is_open() -> None:
    _thread.may_have_some = any(connection.connection is not None for connection in _initialized())


# In other threads.


def put_away() -> None:
    """Leave no connection in this thread, and nothing of what was set in one."""
    for connection in _initialized():
        if not _is_left_in_a_transaction(connection):
            _remove(connection)


@contextmanager
def own_connections() -> Iterator[None]:
    """Have connections of one's own during a block, in a thread that is somebody else's."""
    theirs = _initialized()
    for connection in theirs:
        del connections[connection.alias]
    try:
        yield
    finally:
        put_away()
        for connection in theirs:
            connections[connection.alias] = connection
        _thread.may_have_some = True


# In a test's own thread.


@contextmanager
def shared_connections() -> Iterator[None]:
    """Use those of the test, and its transaction. Close what is in none."""
    theirs = _in_a_transaction()
    try:
        with mode.active.database_scope():
            yield
    finally:
        _close_all_but(theirs)


def _in_a_transaction() -> Sequence[Any]:
    return [connection for connection in _initialized() if connection.in_atomic_block]


def _close_all_but(theirs: Sequence[Any]) -> None:
    for connection in mode.active.own_connections(_initialized()):
        if connection not in theirs and not _is_left_in_a_transaction(connection):
            connection.close()


def call_for_the_test(func: Callable[[T], object], argument: T) -> None:
    """Call a function where the test's connections are, and wait for it.

    On an event loop that is the thread which waits for the loop, or asgiref's single one.
    """
    if not loop_runs_here():
        func(argument)
        return
    loop, single = asyncio.get_running_loop(), SyncToAsync.single_thread_executor
    executor: Executor = AsyncToSync.loop_thread_executors.get(loop, single)
    executor.submit(copy_context().run, func, argument).result()


class TestThread:
    """The thread in which the async tasks of one loop use the connections of a test.

    They share them: the last of them that leaves closes what is in no transaction.
    """

    def __init__(self) -> None:
        self._users = 0  # tasks that have not ended; written on the loop
        self._theirs: Sequence[Any] = ()  # written in the thread, as what follows is
        self._mode_scope = ExitStack()

    async def enter(self) -> None:
        """A task begins. It has to leave even if this is cancelled."""
        self._users += 1
        if self._users == 1:
            await sync_to_async(self._open)()

    async def leave(self) -> None:
        """A task has ended."""
        self._users -= 1
        if not self._users:
            await sync_to_async(self._close)()

    def leave_without_waiting(self) -> None:
        """A task was thrown away with its loop."""
        self._users -= 1

    def _open(self) -> None:
        self._theirs = _in_a_transaction()
        self._mode_scope.enter_context(mode.active.database_scope())

    def _close(self) -> None:
        self._mode_scope.close()
        _close_all_but(self._theirs)


_test_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, TestThread] = WeakKeyDictionary()


def thread_of_the_test() -> TestThread:
    """Where ``sync_to_async`` takes the tasks of the running loop."""
    return _test_threads.setdefault(asyncio.get_running_loop(), TestThread())
