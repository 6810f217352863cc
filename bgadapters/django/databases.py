"""The connections of the threads that tasks use are treated as a request's are.

A plain task has those of its worker. Async tasks use the ORM through ``sync_to_async``, all of them
in one thread, and share its connections: the last one that leaves closes them.

Looking for connections costs more than all else around a task, and going to another thread for
it much more. So both are done only where there may be some.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import AsyncToSync, sync_to_async
from django.db import connections
from django.db.backends.signals import connection_created

from bgadapters.adapters import mode, reset_in_child
from bgadapters.django import sessions

logger = logging.getLogger("bgadapters")


class _Thread(threading.local):
    """What is known of the connections of a thread."""

    may_have_some = True
    scope: ConnectionScope | None = None  # that of the async tasks which use it


_thread = _Thread()


def _note_connection(**_: Any) -> None:
    _thread.may_have_some = True
    if _thread.scope is not None:
        _thread.scope.may_have_some = True


connection_created.connect(_note_connection, dispatch_uid="bgadapters.django")


def _connections() -> Sequence[Any]:
    """The connections of this thread that tasks may close."""
    return mode.active.own_connections(connections.all(initialized_only=True))


def close_old_connections() -> Sequence[Any]:
    """Do as Django does before a request; return the connections in the middle of a transaction.

    These are somebody else's: a test's, or of whoever releases the queue in this thread.
    """
    if not _thread.may_have_some:
        return ()
    found = _connections()
    foreign = [connection for connection in found if connection.in_atomic_block]
    for connection in found:
        if connection not in foreign:
            connection.close_if_unusable_or_obsolete()
    _note_what_is_open()
    return foreign


def close_used_connections(foreign: Sequence[Any]) -> None:
    """Do as Django does after a request, but for those that were ``foreign`` before the task."""
    if not (_thread.may_have_some or sessions.may_keep_state()):
        return
    for connection in _connections():
        if connection not in foreign and not _is_left_in_a_transaction(connection):
            sessions.leave_nothing(connection)
            connection.close_if_unusable_or_obsolete()
    _note_what_is_open()


def _is_left_in_a_transaction(connection: Any) -> bool:
    """Whether a task has begun a transaction and not ended it; then nothing is left of either."""
    if not connection.in_atomic_block:
        return False
    logger.warning(
        "A background task has left a transaction open on the database %r: it is rolled back",
        connection.alias,
    )
    connection.close()
    del connections[connection.alias]  # once closed in a block it cannot be used any more
    return True


def _note_what_is_open() -> None:
    found = connections.all(initialized_only=True)
    _thread.may_have_some = any(connection.connection is not None for connection in found)


class ConnectionScope:
    """A thread in which async tasks use the ORM, and those of them that have not ended.

    Args:
        is_shared: it is asgiref's single thread, of which connections are known. Any other is
            asked each time.
    """

    def __init__(self, is_shared: bool) -> None:
        self._is_shared = is_shared
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty: at first, and in a forked child, which has none of its parent's tasks."""
        self._lock = threading.Lock()
        self._users = 0  # guarded by _lock
        self.may_have_some = True  # connections; written in the thread, as all that follows is
        self._is_used = False
        self._foreign: Sequence[Any] = ()  # see `close_old_connections`
        self._mode_scope = ExitStack()

    async def enter(self) -> None:
        """A task begins. It has to leave even if this is cancelled."""
        with self._lock:
            self._users += 1
            is_first = self._users == 1
        if self.may_have_some:
            await sync_to_async(self._open if is_first else _close_broken_connections)()

    async def leave(self) -> None:
        """A task has ended."""
        if self.release_without_close() and self.may_have_some:
            await sync_to_async(self._close)()

    def release_without_close(self) -> bool:
        """A task was thrown away with its loop; tell whether it was the last."""
        with self._lock:
            self._users -= 1
            return not self._users

    def _open(self) -> None:
        if self._is_used:  # somebody came before it was closed
            self._put_away()
        self._is_used = True
        if self._is_shared:
            _thread.scope = self
        self._foreign = close_old_connections()
        self._mode_scope.enter_context(mode.active.database_scope())

    def _close(self) -> None:
        with self._lock:
            if self._users:  # in another loop, of which nobody knows how far it is by now
                return
        self._put_away()

    def _put_away(self) -> None:
        """Keep no connection for later: nobody calls such a thread when it has nothing to do."""
        self._is_used = False
        self._mode_scope.close()
        for connection in _connections():
            if connection not in self._foreign and not _is_left_in_a_transaction(connection):
                sessions.leave_nothing(connection)
                connection.close()
        self._foreign = ()
        _note_what_is_open()
        self.may_have_some = _thread.may_have_some or not self._is_shared


def _close_broken_connections() -> None:
    """Do what cannot wait until the last task has left, which may be never."""
    for connection in _connections():
        is_idle = not connection.in_atomic_block
        if is_idle and connection.errors_occurred and not connection.is_usable():
            connection.close()


_shared = ConnectionScope(is_shared=True)
_others: WeakKeyDictionary[asyncio.AbstractEventLoop, ConnectionScope] = WeakKeyDictionary()
reset_in_child(__name__, _shared.reset_after_fork)


def scope_of_this_loop() -> ConnectionScope:
    """Where ``sync_to_async`` takes the tasks of the running loop."""
    loop = asyncio.get_running_loop()
    if loop not in AsyncToSync.loop_thread_executors:
        return _shared
    return _others.setdefault(
        loop, ConnectionScope(is_shared=False)
    )  # that which waits in async_to_sync
