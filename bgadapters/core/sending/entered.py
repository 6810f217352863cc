"""Task middlewares of a task whose call another process makes for this one.

All of them are entered here, around the wait. One that has captured something carries it to the
function, so that it is entered there as well, which knows nothing of it but its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.errors import NotPortableError
from bgadapters.core.model.middleware import TaskMiddlewares, checked_middleware
from bgadapters.core.model.payload import Whose
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import Call, Task, callable_name

Captured = Sequence[tuple[str, Any]]
"""The names of middlewares, each with what it has captured."""


def to_be_entered_there(
    runtime: Runtime, call: Call, captured: Captured, whose: Whose
) -> list[tuple[str, Any]]:
    """Return those of the application that have captured something for a task.

    What watches all tasks of the process does so here.

    Raises:
        NotPortableError: one of them cannot be imported by its name.
    """
    own = runtime.settings.task_middleware
    pairs = zip(own, captured[-len(own) :], strict=False) if own else ()
    found = []
    for middleware, (name, value) in pairs:
        if value is not None:
            if not _is_named(middleware, name):
                raise NotPortableError(
                    f"cannot add {callable_name(call.func)} with {whose.option}: the task "
                    f"middleware {name} has captured something for it, and cannot be imported by "
                    "that name there. Define its class at the top level of a module, to be made "
                    f"without arguments, or add the task with {whose.without}"
                )
            found.append((name, value))
    return found


def _is_named(middleware: Any, name: str) -> bool:
    if name.startswith("__main__."):
        return False
    try:
        found = resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return found is middleware or found is type(middleware)


def entered_there(task: Task, record: Record, captured: Captured) -> Task:
    """Return a task, in that process, as one that enters them."""
    if not captured:
        return task
    named = [checked_middleware(resolve_name(name)) for name, _ in captured]
    return TaskMiddlewares(named).restored_to(task, record, captured)
