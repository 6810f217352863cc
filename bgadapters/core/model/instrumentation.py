"""What is installed for every application of the process: listeners, and middlewares.

Instrumentation knows no application. What it installs counts for those that were made before as
well as for those that come. The lists are appended to and read in single steps, without a lock,
which a fork or a signal might find held.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from bgadapters.core.model.event import EventHook
from bgadapters.core.model.middleware import checked_middleware


class Carrier(NamedTuple):
    """Carries something of a request into tasks that run in another process.

    Attributes:
        carry: returns it where a task is added, as JSON; None for nothing.
        restore: called there with what ``carry`` has returned, in the task's context.
    """

    carry: Callable[[], Any]
    restore: Callable[[Any], object]


listeners: list[EventHook] = []
"""Told of every event of every application, before its own hooks."""
last_listeners: list[EventHook] = []
"""Told of every event of every application, after its own hooks."""
carriers: dict[str, Carrier] = {}
"""What carries something of a request into tasks that run in another process, by name."""
_middlewares: list[tuple[Any, Any]] = []  # as they were given, and what is called


def is_listened_to() -> bool:
    """Whether there is any listener."""
    return bool(listeners or last_listeners)


def add_listener(listener: EventHook, *, first: bool = False, after_hooks: bool = False) -> None:
    """Have a callable told of all events; the same one twice in one place is one."""
    place = last_listeners if after_hooks else listeners
    if listener not in place:
        place.insert(0 if first else len(place), listener)


def remove_listener(listener: EventHook) -> None:
    """Undo `add_listener`; nothing happens if it was not called."""
    for place in (listeners, last_listeners):
        if listener in place:
            place.remove(listener)


def add_checked_middleware(middleware: Any) -> None:
    """Have a middleware entered around all tasks; the same one twice is one.

    Raises:
        TypeError: it cannot be called as a middleware.
    """
    checked = checked_middleware(middleware)
    if not any(given == middleware for given, _ in _middlewares):
        _middlewares.append((middleware, checked))


def forget_middleware(middleware: Any) -> None:
    """Undo `add_checked_middleware`; nothing happens if it was not called."""
    _middlewares[:] = [each for each in _middlewares if each[0] != middleware]


def middlewares() -> list[Any]:
    """Return those of the process, the outermost first."""
    return [checked for _, checked in list(_middlewares)]


_TOLD = "__bgadapters_told__"


def told(exception: BaseException) -> BaseException:
    """Return what a task has raised, for the worker of an engine: listeners were told of it."""
    with suppress(Exception):  # a class may refuse attributes
        setattr(exception, _TOLD, True)
    return exception


def was_told(exception: BaseException) -> bool:
    """Whether an exception, or its cause, is the failure of a task that listeners were told of.

    For what hears of exceptions in the worker of an engine, where the same one is raised again.
    """
    return any(getattr(each, _TOLD, False) for each in (exception, exception.__cause__))
