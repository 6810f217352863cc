"""Where hooks and receivers are called: where they can use the ORM, and nobody else does.

That is the worker thread in which a task has run, between tasks. Elsewhere an event loop may be
running, which the ORM refuses, or a transaction of somebody else's, even its rollback. From there
they are handed to a thread of their own, with connections of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import copy_context
from functools import partial, update_wrapper
from typing import Any

from bgadapters.adapters import Batch, EventHook, Runtime, TaskEvent, log, mode
from bgadapters.django import databases
from bgadapters.django.task_threads import make_pool


class HookThread:
    """Calls the hooks and receivers of one application, in the order in which they are told.

    Args:
        enter: called before a hook that is handed to another thread, in a copy of the task's
            context: what Django keeps by thread is to be set there.

    Attributes:
        runtime: that of the application; its drains wait for the calls.
    """

    runtime: Runtime

    def __init__(self, enter: Callable[[], object]) -> None:
        self._enter = enter
        self._pool = make_pool(1, "bgadapters-hooks")
        self._pending: set[_Call] = set()

    def wrapped(self, hook: EventHook | None) -> EventHook | None:
        """Return a hook that calls another in the right place."""
        return None if hook is None else _Hook(self, hook)

    def call(self, hook: EventHook, event: TaskEvent) -> None:
        """Call a hook, here or in the thread.

        What is told of a task that is added belongs to whoever adds it. A test's hooks belong to
        the test's transaction.
        """
        if event.kind == "added":
            hook(event)
        elif mode.active.shares_connections:
            databases.call_for_the_test(partial(self._call_as_the_task, hook), event)
        elif databases.is_free_worker() and not self._pending:
            _call_in_worker(hook, event)
        else:
            self._call_elsewhere(hook, event)

    def _call_elsewhere(self, hook: EventHook, event: TaskEvent) -> None:
        call = _Call(partial(self._call_as_the_task, hook), event)
        self._pending.add(call)
        self.runtime.scheduler.enter(call.batch)
        if not self._pool.submit(partial(self._make, call)):
            self._make(call)

    def _call_as_the_task(self, hook: EventHook, event: TaskEvent) -> None:
        self._enter()
        hook(event)

    def _make(self, call: _Call) -> None:
        try:
            if databases.is_free_worker():
                call.context.run(_call_in_worker, call.hook, call.event)
            else:  # no thread can be started
                with databases.own_connections():
                    call.context.run(call.hook, call.event)
        except BaseException as exc:
            call.context.run(_say_that_it_failed, call.event, exc)
        finally:
            self._pending.discard(call)
            self.runtime.in_flight.leave(call.batch, 0)


def _call_in_worker(hook: EventHook, event: TaskEvent) -> None:
    try:
        databases.begin_work()
        hook(event)
    finally:
        databases.end_work()


def _say_that_it_failed(event: TaskEvent, exception: BaseException) -> None:
    message = "The hook for the event %r of %s failed"
    log(logging.ERROR, message, event.kind, event.task.name, exc_info=exception)


class _Call:
    """A call that waits: a batch without tasks stands for it in what a drain waits for."""

    def __init__(self, hook: EventHook, event: TaskEvent) -> None:
        self.hook = hook
        self.event = event
        self.context = copy_context()  # the task's, as a rule
        self.batch = Batch()
        self.batch.carrier = self

    def abandon(self) -> None:
        """Say that a drain does not wait for it any longer."""
        message = "A hook was still to be called, or to return, for the event %r of %s"
        context = self.context.copy()  # it may be running in the other one
        context.run(log, logging.WARNING, message, self.event.kind, self.event.task.name)

    def rescue(self) -> None:
        """Do nothing: no loop carries it."""

    def task_has_ended(self) -> None:
        """Do nothing: it has no tasks."""


class _Hook:
    """A hook of the settings, called in the right place."""

    __wrapped__: EventHook

    def __init__(self, thread: HookThread, hook: EventHook) -> None:
        update_wrapper(self, hook)
        self._thread = thread

    def __call__(self, event: TaskEvent) -> Any:
        self._thread.call(self.__wrapped__, event)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)
