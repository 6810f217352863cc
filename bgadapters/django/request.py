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

from bgadapters.adapters import BackgroundTasks, answer_check, loop_runs_here, mode
from bgadapters.asgi import open_response
from bgadapters.django.runtime import get_runtime
from bgadapters.wsgi import QUEUE_KEY

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
        queue = _middleware_queue(request) or _own_queue(request)
        request.background_tasks = queue
    return queue


def _middleware_queue(request: Any) -> BackgroundTasks | None:
    """The queue of `bgadapters.django.asgi` or `bgadapters.django.wsgi`, which also release it."""
    response = open_response(getattr(request, "scope", {}))
    queue: BackgroundTasks | None = getattr(request, "environ", {}).get(QUEUE_KEY)
    if response is not None:
        queue = response.queue
    if queue is None or not queue.is_open or queue.runtime is not get_runtime():
        return None
    return queue


def _own_queue(request: Any) -> BackgroundTasks:
    make = ASGIQueue if isinstance(request, ASGIRequest) else BackgroundTasks
    queue = make(runtime=get_runtime(), path=request.path)
    request.close = _ClosingRequest(request, queue)
    place = "django-asgi" if make is ASGIQueue else "django"
    if queue.runtime.check_token is not None:
        answer_check(queue, request.META.get("HTTP_BGADAPTERS_CHECK"), place)
    return queue


def listen() -> None:
    """Hear of exceptions that nothing handles. Django's signals are the process's own."""
    got_request_exception.connect(_discard, dispatch_uid="bgadapters.django")


class _ClosingRequest:
    """``request.close`` that also releases the request's queue."""

    __slots__ = ("_close", "_queue")

    def __init__(self, request: http.HttpRequest, queue: BackgroundTasks) -> None:
        self._close = request.close
        self._queue = queue

    def __call__(self) -> None:
        close, self._close = self._close, _closed  # or the request would stay until it is collected
        try:
            close()
        finally:
            self._queue.release()


def _closed() -> None:
    """The request was closed before."""


class ASGIQueue(BackgroundTasks):
    """A queue that runs on the server's event loop, though Django releases it in a thread.

    No event loop can be made to do the work when ``max_pending`` is reached: a response waits
    before it is sent (as under `bgadapters.asgi`, whose queues are not of this class).
    """

    __slots__ = ()

    def release(self) -> None:
        """As the base, from whatever thread."""
        if not len(self) or loop_runs_here() or mode.active.releases_here():
            super().release()
        else:
            self.wait_for_capacity()
            async_to_sync(self._release_on_loop)()

    async def _release_on_loop(self) -> None:
        super().release()


_NO_QUEUE = (
    "A request has background_tasks in a view with the decorator @background_tasks, from "
    "bgadapters.django, or with 'bgadapters.django.BackgroundTasksMiddleware' in MIDDLEWARE."
)


def _misses_the_queue(error: AttributeError) -> bool:
    return error.name == _ATTRIBUTE and hasattr(error.obj, "META")


def _discard(*, request: http.HttpRequest | None = None, **_: Any) -> None:
    """An exception that nothing handled became an error page: the view's tasks are discarded."""
    queue = request.__dict__.get(_ATTRIBUTE) if request is not None else None
    exception = sys.exc_info()[1]
    if isinstance(exception, AttributeError) and _misses_the_queue(exception):
        exception.add_note(_NO_QUEUE)
    if queue is not None and exception is not None:
        queue.discard(exception)
