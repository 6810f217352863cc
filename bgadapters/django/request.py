"""The queue of a Django request, and its release when the response is closed.

``BaseHandler`` has every response it returns, whichever middleware made it, close the
request it answers; so it is ``request.close`` that releases the queue. An attachment
to the response itself would be lost with a response that is replaced, and would not
pickle with one that is cached.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django import http
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import got_request_exception

from bgadapters.core.queue import BackgroundTasks
from bgadapters.django.runtime import get_runtime

_ATTRIBUTE = "background_tasks"


class HttpRequest(http.HttpRequest):
    """A request of a view with ``@background_tasks``, for annotations: it has the queue."""

    if TYPE_CHECKING:
        background_tasks: BackgroundTasks


def queue_of(request: Any) -> BackgroundTasks:
    """Return the queue of a request, opened when it has none yet.

    Args:
        request: Django's request, or Django REST framework's around it.
    """
    request = getattr(request, "_request", request)
    queue: BackgroundTasks | None = request.__dict__.get(_ATTRIBUTE)
    if queue is None:
        queue = BackgroundTasks(runtime=get_runtime())
        request.background_tasks = queue
        request.close = _ClosingRequest(request, queue)
    return queue


def listen() -> None:
    """Hear of exceptions that nothing handles. Django's signals are the process's own."""
    got_request_exception.connect(_drop, dispatch_uid="bgadapters.django")


class _ClosingRequest:
    """``request.close`` that also releases the request's queue."""

    __slots__ = ("_close", "_is_async", "_queue")

    def __init__(self, request: http.HttpRequest, queue: BackgroundTasks) -> None:
        self._close = request.close
        self._is_async = isinstance(request, ASGIRequest)
        self._queue = queue

    def __call__(self) -> None:
        try:
            self._close()
        finally:
            if not len(self._queue):
                self._queue.release()
            elif self._is_async:
                self._queue.runtime.room(self._queue)
                async_to_sync(_release)(self._queue)
            else:
                self._queue.release()


async def _release(queue: BackgroundTasks) -> None:
    """Release on the server's event loop, to which this thread's ``async_to_sync`` leads."""
    queue.release()


def _drop(*, request: http.HttpRequest | None = None, **_: Any) -> None:
    """An exception that nothing handled became an error page: the view's tasks are discarded."""
    queue = request.__dict__.get(_ATTRIBUTE) if request is not None else None
    exception = sys.exc_info()[1]
    if queue is not None and exception is not None:
        queue.drop(exception)
