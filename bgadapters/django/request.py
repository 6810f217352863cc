"""The queue of a Django request, and its release when the response is closed.

``BaseHandler`` has every response it returns, whichever middleware made it, close the
request it answers; so it is ``request.close`` that releases the queue. An attachment
to the response itself would be lost with a response that is replaced, and would not
pickle with one that is cached.
"""

from __future__ import annotations

import sys
from asyncio import current_task
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, async_to_sync
from django import http
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import got_request_exception, request_finished, request_started

from bgadapters.adapters import (
    BackgroundTasks,
    LazyBatch,
    Runtime,
    answer_check,
    enter,
    leave,
    loop_runs_here,
    mode,
    running_loop,
    start_serving,
)
from bgadapters.asgi import NoResponseSent, open_response
from bgadapters.django.runtime import get_runtime
from bgadapters.wsgi import QUEUE_KEY

_ATTRIBUTE = "background_tasks"
_SERVED = "bgadapters.django.served"
"""In the environ or scope of a request that a handler of Django's serves, and in copies of it."""
_BEGUN, _OPENED = "begun", "opened"
"""What stands there, before and after the queue of that request was opened."""
_CALL = "bgadapters.django.call"
"""In the scope of a request and on what asgiref has for the time of its call: the same object."""
_CALLS = "bgadapters_calls"
"""On what asgiref has for the time of an ASGI call: the `Closing` of each request in it."""


class HttpRequest(http.HttpRequest):
    """A request of a view with ``@background_tasks``, for annotations: it has the queue."""

    if TYPE_CHECKING:
        background_tasks: BackgroundTasks


def bare(request: Any) -> Any:
    """Return Django's request, of which Django REST framework's is a wrapper."""
    return vars(request).get("_request", request)


def queue_of(request: Any, outer: BackgroundTasks | None = None) -> BackgroundTasks:
    """Return the queue of a request, opened when it has none that is open.

    Args:
        request: Django's own.
        outer: the queue of the view that is at work here. It is that of a request which no
            handler serves as well, since nobody would close its response.
    """
    queue: BackgroundTasks | None = vars(request).get(_ATTRIBUTE)
    if queue is None or not queue.is_open:
        queue = _middleware_queue(request) or _queue_around(request, outer) or _own_queue(request)
        request.background_tasks = queue
    return queue


def _middleware_queue(request: Any) -> BackgroundTasks | None:
    """The queue of `bgadapters.django.asgi` or `bgadapters.django.wsgi`, which also release it."""
    queue: BackgroundTasks | None
    if isinstance(request, ASGIRequest):
        scope: Any = request.scope
        response = open_response(scope)
        queue = None if response is None else response.queue
    else:
        queue = getattr(request, "environ", {}).get(QUEUE_KEY)
    if queue is None or not queue.is_open or queue.runtime is not get_runtime():
        return None
    return queue


def _queue_around(request: Any, outer: BackgroundTasks | None) -> BackgroundTasks | None:
    if outer is None or not outer.is_open or _state_of(request).get(_SERVED) is _BEGUN:
        return None
    return outer if outer.runtime is get_runtime() else None


def _own_queue(request: Any) -> BackgroundTasks:
    is_asgi = isinstance(request, ASGIRequest)
    queue = (ASGIQueue if is_asgi else _RequestQueue)(get_runtime(), request)
    request.close = Closing(request, queue, _asgi_call(request.scope) if is_asgi else None)
    state = _state_of(request)
    if _SERVED in state:
        state[_SERVED] = _OPENED
    if queue.runtime.check_token is not None:
        place = "django-asgi" if is_asgi else "django"
        answer_check(queue, request.META.get("HTTP_BGADAPTERS_CHECK"), place)
    return queue


def _state_of(request: Any) -> dict[str, Any]:
    """The dictionary in which a server describes a request; an empty one if there is none."""
    name = "scope" if isinstance(request, ASGIRequest) else "environ"
    state = vars(request).get(name)
    return state if isinstance(state, dict) else {}


def is_served(request: Any) -> bool:
    """Whether a handler of Django's serves a request, and so closes its response.

    Otherwise a view was called by hand. The handler of the request in which the first view is
    imported has begun before anything could be noted: it has set the match of its URL.
    """
    match = getattr(request, "resolver_match", None)  # which mocks of tests may lack
    has_match = isinstance(request, http.HttpRequest) and match is not None
    return has_match or _SERVED in _state_of(request)


def listen() -> None:
    """Hear of requests, and of exceptions that nothing handles.

    Django's signals are the process's own.
    """
    request_started.connect(_note_request, dispatch_uid="bgadapters.django")
    got_request_exception.connect(_discard, dispatch_uid="bgadapters.django")
    request_finished.connect(_close_unanswered, dispatch_uid="bgadapters.django")


def _note_request(*, sender: Any = None, environ: Any = None, scope: Any = None, **_: Any) -> None:
    if isinstance(sender, type) and issubclass(sender, (WSGIHandler, ASGIHandler)):
        start_serving(get_runtime(), _loop_of_call)  # whichever view it is for
    state = environ if scope is None else scope
    if isinstance(state, dict):  # others than Django's handlers send the signal with nothing
        state[_SERVED] = _BEGUN
    if isinstance(scope, dict):
        _asgi_call(scope)


def _loop_of_call() -> Any:
    """The event loop that serves; Django may tell of a request in a thread beside it."""
    loop = running_loop()
    is_beside = SyncToAsync.thread_sensitive_context.get(None) is not None
    return async_to_sync(_loop_here)() if loop is None and is_beside else loop


async def _loop_here() -> Any:
    return running_loop()


class Closing:
    """``request.close`` that also leaves the request's queue and releases it.

    Args:
        request: the request.
        queue: its queue.
        call: what lasts as long as the ASGI call of the request; None if nothing does.

    Attributes:
        is_being_made: whether the view is at work.
        failure: what has escaped it last.
        call: as given.
    """

    __slots__ = ("_close", "_previous", "_queue", "call", "failure", "is_being_made")

    def __init__(self, request: http.HttpRequest, queue: BackgroundTasks, call: Any) -> None:
        self._close = request.close
        self._queue = queue
        self._previous: Any = None
        self.is_being_made = False
        self.failure: BaseException | None = None
        self.call = call
        if call is not None:
            vars(call).setdefault(_CALLS, []).append(self)

    def begin(self) -> None:
        """The view is called: its queue is the current one, until the response is closed."""
        self.is_being_made = True
        previous = enter(self._queue)
        if previous is not self._queue:
            self._previous = previous if getattr(previous, "is_open", True) else None

    @property
    def is_in_call(self) -> bool | None:
        """Whether the ASGI call of its request lasts; None if nobody can tell.

        A server may cancel it, and Django's view goes on in a task of its own.
        """
        return None if self.call is None else self.call.token is not None

    def abandon(self, exception: BaseException) -> None:
        """No response comes of the request, so that nobody closes it."""
        leave(self._queue, self._previous)
        if isinstance(exception, NoResponseSent) and self._queue.is_open:
            self._queue.note_response(client_left=True)
        self._queue.close(self.failure or exception)

    def abandon_with_call(self, exception: BaseException) -> None:
        """The view was cancelled: if its server has cancelled the whole call, nothing tells."""
        call, task = self.call, current_task() if loop_runs_here() else None

        def look(_: object) -> None:
            if call.token is None:
                self.abandon(exception)

        if call is not None and task is not None:
            task.add_done_callback(look)

    def finish(self) -> None:
        """The response is complete."""
        self._queue.release()
        self._leave()

    async def afinish(self) -> None:
        """Do as `finish`, and wait until the tasks have run."""
        await self._queue.arelease()
        self._leave()

    def _leave(self) -> None:
        if not mode.active.keeps_open(self._queue):
            leave(self._queue, self._previous)

    def __call__(self) -> None:
        """Close the request."""
        close, self._close = self._close, _closed  # or the request would stay until it is collected
        try:
            close()
        finally:
            self.finish()


def _closed() -> None:
    """The request was closed before."""


def _asgi_call(scope: Any) -> Any:
    """What asgiref has for the time of the ASGI call of this scope; None if there is none.

    It is found by the context. A server may begin a request in the context of an earlier one of
    the same connection, as uvicorn does where that one's ``send`` has made it read again. What is
    found then is the earlier one's: it belongs to the scope for which it was found first.
    """
    call: Any = SyncToAsync.thread_sensitive_context.get(None)
    if call is None:
        return None
    if _CALL not in vars(call):
        vars(call)[_CALL] = scope[_CALL] = object()  # not the scope, which tasks would keep
    return call if vars(call)[_CALL] is scope.get(_CALL) else None


def _close_unanswered(*, sender: Any = None, **_: Any) -> None:
    """An ASGI call ends. Of a view whose client has left Django makes no response to be closed."""
    if isinstance(sender, type) and issubclass(sender, ASGIHandler):
        call = SyncToAsync.thread_sensitive_context.get(None)
        calls: list[Closing] = getattr(call, _CALLS, [])
        for closing in [each for each in calls if not each.is_being_made]:
            calls.remove(closing)  # the contexts of tasks hold this list
            closing.abandon(NoResponseSent("the client has left"))


class _RequestQueue(LazyBatch):
    """The queue of a request that Django's handler of WSGI serves, or nobody does."""

    __slots__ = ()

    def __init__(self, runtime: Runtime, request: http.HttpRequest) -> None:
        self.runtime = runtime
        self.is_used = False
        self.made = {}
        self.noted = None
        self.request_path = request.path
        self.request_method = request.method


class ASGIQueue(_RequestQueue):
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

    def flush(self) -> None:
        """As the base, from whatever thread."""
        if not len(self) or loop_runs_here() or mode.active.releases_here():
            super().flush()
        else:
            async_to_sync(self._flush_on_loop)()

    async def _flush_on_loop(self) -> None:
        super().flush()


_NO_QUEUE = (
    "A request has background_tasks in a view with the decorator @background_tasks, from "
    "bgadapters.django, or with 'bgadapters.django.BackgroundTasksMiddleware' in MIDDLEWARE."
)


def _misses_the_queue(error: AttributeError) -> bool:
    return error.name == _ATTRIBUTE and hasattr(error.obj, "META")


def _discard(*, request: http.HttpRequest | None = None, **_: Any) -> None:
    """An exception that nothing handled became an error page: the view's tasks are discarded.

    With ``DEBUG_PROPAGATE_EXCEPTIONS`` no page comes of it.
    """
    state = {} if request is None else vars(request)
    queue, closing = state.get(_ATTRIBUTE), state.get("close")
    exception = sys.exception()
    if isinstance(exception, AttributeError) and _misses_the_queue(exception):
        exception.add_note(_NO_QUEUE)
    if queue is None or exception is None:
        return
    queue.discard(exception)
    if settings.DEBUG_PROPAGATE_EXCEPTIONS and isinstance(closing, Closing):
        closing.abandon(exception)
