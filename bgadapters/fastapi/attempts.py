"""Whether a view has succeeded under a route class of the application's own.

Such a class may call FastAPI's handler twice, or answer the view's exception by itself, and
all of that inside the exit stacks which tell the dependency of a failure. What FastAPI does
with its own background tasks tells: it hands them to the response that it makes of what the
view has returned, and to nothing else.
"""

from __future__ import annotations

from weakref import ref

from fastapi import BackgroundTasks
from fastapi.routing import APIRoute
from starlette.types import Scope

from bgadapters.adapters import BackgroundTasksError

KEY = "bgadapters.attempt"
"""Where the scope of a request holds the attempt that is being made."""

_HANDLER = APIRoute.get_route_handler


class AttemptFailed(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """The route class has called the view once more, or has answered its exception by itself."""


class Trace:
    """Something that FastAPI keeps for one call of its handler, and shows to nobody."""


async def leave_trace() -> Trace:
    """A dependency whose value is gone when FastAPI's handler has returned."""
    return Trace()


class Attempt:
    """One call of FastAPI's handler.

    Args:
        native: FastAPI's own background tasks of this call. The response keeps them.
        trace: what is gone when this call has returned, and is kept with the exception if it
            has raised one.
        since: the queue's ``position`` when it began.
    """

    __slots__ = ("_native", "_succeeded", "_trace", "since")

    def __init__(self, native: BackgroundTasks, trace: Trace, since: int) -> None:
        self.since = since
        self._succeeded = False
        self._native = ref(native)
        self._trace = ref(trace, self._end)

    def is_of(self, native: BackgroundTasks) -> bool:
        """Whether these are the background tasks of this very call."""
        return self._native() is native

    @property
    def failed(self) -> bool:
        """Whether no response was made of what the view has returned. Ask when it has ended."""
        return not self._succeeded

    def _end(self, _: object) -> None:
        self._succeeded = self._native() is not None


def is_custom(scope: Scope) -> bool:
    """Whether the route has a handler that is not FastAPI's."""
    return _has_handler(type(scope.get("route")))


def are_custom() -> bool:
    """Whether there is any class of routes with a handler that is not FastAPI's."""
    classes = [APIRoute]
    for cls in classes:
        classes += cls.__subclasses__()
    return any(map(_has_handler, classes))


def _has_handler(cls: type) -> bool:
    return getattr(cls, "get_route_handler", _HANDLER) is not _HANDLER
