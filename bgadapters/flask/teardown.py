"""Tasks that an application's teardown functions add, after a request or after a task.

Flask calls them whenever an application context ends, so after each task as well. One that adds a
task each time would be called after that task too, and so on without end. So nothing is added after
a task that was itself added in this way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context
from types import FrameType
from typing import Any
from weakref import WeakSet

from flask import Flask, has_request_context

from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import Runtime, Task, enter, leave, log

_told: WeakSet[Runtime] = WeakSet()


def is_at_work() -> bool:
    """Whether a teardown function of an application context runs here.

    Asked by ``add_task``, so that a request which adds nothing pays nothing. Flask has left the
    request by then.
    """
    if has_request_context():
        return False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  documented
    while frame is not None and frame.f_code is not Flask.do_teardown_appcontext.__code__:
        frame = frame.f_back
    return frame is not None


@contextmanager
def adding_nothing(runtime: Runtime) -> Iterator[None]:
    """Have nothing added in this block; one WARNING tells of it."""
    nowhere = _Nowhere(runtime=runtime)
    previous = enter(nowhere)
    try:
        yield
    finally:
        leave(nowhere, previous)


class _Nowhere(Queue):
    """The queue of code that is not to add anything."""

    __slots__ = ()

    def add_task(self, func: Any, *args: Any, **_: Any) -> None:
        """Count what is not added as discarded; say it once for an application."""
        self.runtime.events.totals.count("discarded")
        if self.runtime in _told:
            return
        _told.add(self.runtime)
        log(
            logging.WARNING,
            "%s was not added: a teardown function adds it after a task that a teardown function "
            "has added, and so would without end. Such functions are called after each task as "
            "well, since it has an application context of its own. This is said once",
            Task(func, args, Context()).name,
        )

    def options(self, *_: Any, **__: Any) -> Any:
        """Return what adds nothing either."""
        return self
