"""The process-wide API of instrumentation: it counts for every application at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bgadapters.core.app.runtime import runtimes
from bgadapters.core.model import instrumentation
from bgadapters.core.model.event import EventHook
from bgadapters.core.model.middleware import Around, TaskInfo, TaskMiddleware
from bgadapters.core.model.settings import checked_hook

Middleware = TaskMiddleware | type[TaskMiddleware] | Callable[[TaskInfo], Around]


def subscribe(listener: EventHook, *, first: bool = False, after_hooks: bool = False) -> None:
    """Have a callable told of all events of every application of this process.

    It is called with each `TaskEvent`, after the framework's signals and before ``on_event``:
    where that happens, in the task's own context (of ``"added"``, in that of whoever adds it).
    What closes something that hooks are to find open asks to be called after them.
    What it raises is logged and stops nothing. It counts at once, also for applications that were
    set up before; of tasks that were added before, it is told what happens from then on.

    Args:
        listener: the callable. The same one twice is one.
        first: whether it is told before those that are subscribed already. Default: False.
        after_hooks: whether it is called after ``on_event`` and ``on_error``. Default: False.

    Raises:
        TypeError: it cannot be called, or is a coroutine function.
    """
    instrumentation.add_listener(
        checked_hook("subscribe()", listener), first=first, after_hooks=after_hooks
    )
    _refresh()


def unsubscribe(listener: EventHook) -> None:
    """Undo `subscribe`. Nothing happens if the callable was not subscribed."""
    instrumentation.remove_listener(listener)
    _refresh()


def add_middleware(middleware: Middleware) -> None:
    """Have a task middleware entered around the tasks of every application of this process.

    It is entered outside of the applications' own, those that were added earlier outermost. It
    counts for tasks that are added from now on: a task keeps those that it was added with.

    Args:
        middleware: as in the setting ``task_middleware``, but no import path. The same one twice
            is one.

    Raises:
        TypeError: it cannot be called as a task middleware.
    """
    instrumentation.add_checked_middleware(middleware)
    _refresh()


def remove_middleware(middleware: Middleware) -> None:
    """Undo `add_middleware`. Nothing happens if the middleware was not added."""
    instrumentation.forget_middleware(middleware)
    _refresh()


def add_carrier(name: str, carry: Callable[[], Any], restore: Callable[[Any], object]) -> None:
    """Have something of a request go with tasks that run in another process.

    Those are what is recovered from a store, and what is sent to an engine.

    Args:
        name: under which it goes. Another one of that name is replaced.
        carry: returns it where a task is added, as JSON; None for nothing.
        restore: called in the other process with what ``carry`` has returned, in the task's
            context variables, before anything is told of the task. What it raises is logged.
    """
    instrumentation.carriers[name] = instrumentation.Carrier(carry, restore)


def remove_carrier(name: str) -> None:
    """Undo `add_carrier`. Nothing happens if there is none of that name."""
    instrumentation.carriers.pop(name, None)


def _refresh() -> None:
    for runtime in runtimes():
        runtime.refresh()
