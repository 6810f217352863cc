"""A thread for each async task that uses the ORM, and so connections of its own.

Django's connections belong to threads, and async code uses them through asgiref's
``sync_to_async``, which asks the context for the thread. Under ASGI each request has one. So has
each async task here, from its first such call on, until it has ended.

A task that has no connection gives its thread back after each call: only those that have one
count, and there are as many threads as there may be connections.

A task may wait for tasks of its own, in an ``async with`` block. They would wait for the thread
that it keeps, and so take theirs from other ones.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections

from bgadapters.adapters import Pool, reset_in_child
from bgadapters.django.databases import at_work, put_away

P = ParamSpec("P")
T = TypeVar("T")

_pools: WeakSet[Pool] = WeakSet()


def _reset_after_fork() -> None:
    for pool in _pools:
        pool.reset_after_fork()


reset_in_child(__name__, _reset_after_fork)


def make_pool(size: int, name: str) -> Pool:
    """Return a pool of threads that a forked child forgets."""
    pool = Pool(size, name=name)
    _pools.add(pool)
    return pool


class TaskThreads:
    """The threads of the async tasks of an application.

    Args:
        size: how many there are, for tasks that are inside of no other.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pools: list[Pool] = []  # by how many tasks around it have a thread

    def pool(self, depth: int) -> Pool:
        """Return the threads for tasks inside of so many others that have one."""
        while len(self._pools) <= depth:  # two that add one at a time do no harm
            self._pools.append(make_pool(self._size, "bgadapters-async"))
        return self._pools[depth]


class TaskThread(Executor):
    """The thread of one async task, while the task needs it.

    Made in the context of the task. A task waits for a thread that is free, its loop does not.

    Args:
        threads: those of the application.
    """

    def __init__(self, threads: TaskThreads) -> None:
        self._threads = threads
        self._outer = SyncToAsync.thread_sensitive_context.get(None)  # of who has added the task
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._is_taken = False  # a thread, or a place in the line for one; guarded by _lock
        self._is_over = False  # the task; guarded by _lock

    def enter(self) -> None:
        """Have ``sync_to_async`` call here from now on, in the context that this is called in.

        Nothing is left of who has added the task: a view that ran inside ``async_to_sync`` has
        left the thread that waited for it, which does so no longer.
        """
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = self
        SyncToAsync.thread_sensitive_context.set(context)
        AsyncToSync.executors.current = None

    def depth(self) -> int:
        """How many tasks have a thread, this one and those around it."""
        return self._is_taken + self._depth_around()

    def _depth_around(self) -> int:
        outer = self._outer and SyncToAsync.context_to_thread_executor.get(self._outer)
        return outer.depth() if isinstance(outer, TaskThread) else 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in the thread, after those that were submitted before.

        Raises:
            RuntimeError: there is no thread, and none can be started.
        """
        future: Future[T] = Future()
        with self._lock:
            self._jobs.put(partial(_run, future, partial(fn, *args, **kwargs)))
            was_taken, self._is_taken = self._is_taken, True
        if not (was_taken or self._threads.pool(self._depth_around()).submit(self._serve)):
            with self._lock:
                self._jobs.get()
                self._is_taken = False
            raise RuntimeError(
                "sync_to_async() and the ORM need a thread, and none can be started here; make "
                "the background task a plain function"
            )
        return future

    async def leave(self) -> None:
        """The task has ended: close its connections, and give the thread back."""
        if self._end():
            await asyncio.get_running_loop().run_in_executor(self, put_away)

    def leave_without_waiting(self) -> None:
        """The task was thrown away with its loop."""
        if self._end():
            self.submit(put_away)

    def _end(self) -> bool:
        with self._lock:
            self._is_over = True
            self._outer = None
            return self._is_taken

    def _serve(self) -> None:
        """Make the calls of the task, in the thread, until it is not needed any more."""
        with at_work():
            self._make_calls()

    def _make_calls(self) -> None:
        while True:
            job = self._jobs.get()
            job()
            del job  # or a thread that waits would keep what was called
            if self._is_over:  # what the task has left behind may still call
                put_away()
            if not connections.all(initialized_only=True):
                with self._lock:
                    if self._jobs.empty():
                        self._is_taken = False
                        return


def _run(future: Future[Any], call: Callable[[], Any]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = call()
        except BaseException as exc:
            future.set_exception(exc)
        else:
            future.set_result(result)
