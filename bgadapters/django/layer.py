"""The part of a response that one request has: what is at work for it, and what its failure means.

A view may call others with requests of its own, as those of batches do: their tasks go into the
queue of the response that is being made, and a view that fails there costs its own alone.
"""

from __future__ import annotations

from asyncio import CancelledError
from contextvars import ContextVar
from typing import Any
from weakref import ref

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError

from bgadapters.adapters import BackgroundTasks, BackgroundTasksError, Task, enter, leave, mode
from bgadapters.asgi import NoResponseSent
from bgadapters.django.commit import call_after_commits
from bgadapters.django.request import Closing, bare, is_served, queue_of


class Part:
    """What is made for one request.

    The contexts of tasks hold it: so it keeps nothing of the request.

    Args:
        request: Django's own.
        before: the part that is at work, if there is one.

    Attributes:
        queue: that of the response.
        outer: the part whose view has made this request, if its response is that one's.
    """

    __slots__ = ("_before", "_previous", "_request", "outer", "queue")

    def __init__(self, request: Any, before: Part | None) -> None:
        self._request = ref(request)
        self.queue: BackgroundTasks = queue_of(request, None if before is None else before.queue)
        self.outer = before if before is not None and before.queue is self.queue else None
        self._before = before
        self._previous: Any = None

    @property
    def request(self) -> Any:
        """The request; None when it is gone."""
        return self._request()

    @property
    def _closing(self) -> Closing | None:
        """What closes the request and its queue, if the queue is its own."""
        if self.outer is not None or (request := self._request()) is None:
            return None
        closing = vars(request).get("close")
        return closing if isinstance(closing, Closing) else None

    def begin(self) -> Closing | None:
        """The view is about to be called. Returns what `pause` and `make` are to be given."""
        _current.set(self)
        closing = self._closing
        if closing is None:
            self._previous = enter(self.queue)
        else:
            closing.begin()
        return closing

    def pause(self, closing: Closing | None) -> None:
        """The view has returned or raised. The queue is current until the response is closed."""
        _current.set(self._before)
        if closing is None:
            leave(self.queue, self._previous)
        else:
            closing.is_being_made = False

    def discard(self, exception: BaseException) -> None:
        """It has failed: discard its tasks, which are all of them if it is the response itself."""
        if self.outer is None and not isinstance(exception, BackgroundTasksError):
            self.queue.note_response(_status_of(exception))
        self.queue.discard(exception, which=None if self.outer is None else self._owns)

    def _owns(self, task: Task) -> bool:
        """Whether a task was added while this part was at work, or one that it has made."""
        part = task.context.get(_current)
        while part is not None and part is not self:
            part = part.outer
        return part is self

    def fail(self, exception: BaseException) -> None:
        """An exception escapes the view. The queue stays open if a response comes of it."""
        closing = self._closing
        if closing is None or isinstance(exception, GeneratorExit):  # nothing can be waited for
            self.discard(exception)
        elif self._is_answered_despite(exception, closing.is_in_call):
            closing.failure = exception
            self.discard(exception)
            if isinstance(exception, CancelledError):
                closing.abandon_with_call(exception)
            mode.active.fail_response(self.request, closing.finish)
        else:
            closing.abandon(exception)

    def is_answered(self, exception: BaseException) -> bool:
        """Whether somebody sends what the view answers to an exception, instead of a response."""
        closing = self._closing
        if closing is None:  # a gateway has the queue, or the response is a part of another one
            return self.outer is None and self._is_answered_despite(exception, None)
        return self._is_answered_despite(exception, closing.is_in_call)

    def _is_answered_despite(self, exception: BaseException, is_in_call: bool | None) -> bool:
        """Whether Django makes a response of it, or tells when the call ends without one."""
        if not is_served(self.request):
            return False
        if isinstance(exception, CancelledError):
            return is_in_call is True
        return isinstance(exception, Exception) and is_in_call is not False

    def confirm(self) -> None:
        """The view has returned: have kept what was added, once what it has begun is committed.

        Raises:
            StoreUnavailableError: it cannot be kept, and no response should say that it was. In a
                transaction it is raised where that has been committed.
        """
        if self._has_unconfirmed() and not call_after_commits(self._confirm_when_committed):
            self.queue.confirm()

    def _confirm_when_committed(self) -> None:
        try:
            self.queue.confirm()
        except BaseException as exc:
            self.fail(exc)
            raise

    async def aconfirm(self) -> None:
        """Do as `confirm`, where a view is awaited: it can be in no transaction."""
        if self._has_unconfirmed():
            await self.queue.aconfirm()

    def _has_unconfirmed(self) -> bool:
        """Whether something is to be kept, and it is for this part to see to it."""
        queue = self.queue
        return self.outer is None and queue.is_used and queue.batch.unconfirmed is not None

    def close_stream(self, exception: BaseException) -> None:
        """Its body has broken off."""
        if self.outer is None:
            self.queue.close(exception)
        else:
            self.discard(exception)

    def make(self, response: Any, is_stream: bool, closing: Closing | None) -> None:
        """The view has returned: run its tasks if nobody closes this response."""
        if closing is not None:
            mode.active.end_response(self.request, response, closing.finish)
            self._finish(closing, is_stream)

    async def amake(self, response: Any, is_stream: bool, closing: Closing | None) -> None:
        """Do as `make`, where a view is awaited."""
        if closing is not None:
            await mode.active.aend_response(self.request, response, closing.finish, closing.afinish)
            self._finish(closing, is_stream)

    def _finish(self, closing: Closing, is_stream: bool) -> None:
        if closing.is_in_call is False:
            closing.abandon(NoResponseSent("the client has left"))
        elif not is_served(self.request) and not is_stream:
            closing.finish()

    def end_stream(self) -> None:
        """The last part of its body was made."""
        closing = self._closing
        if closing is not None and not is_served(self.request):
            closing.finish()
        elif self.outer is None:
            mode.active.end_stream(self.queue.release)

    async def aend_stream(self) -> None:
        """Do as `end_stream`."""
        closing = self._closing
        if closing is not None and not is_served(self.request):
            await closing.afinish()
        elif self.outer is None:
            await mode.active.aend_stream(self.queue.arelease)


def _status_of(exception: BaseException) -> int | None:
    """Return the status of what Django answers to an exception; None if it answers nothing."""
    if not isinstance(exception, Exception):
        return None
    return next((status for kind, status in _STATUSES if isinstance(exception, kind)), 500)


_STATUSES = (
    (Http404, 404),
    (PermissionDenied, 403),
    ((BadRequest, SuspiciousOperation, MultiPartParserError), 400),
)

_current: ContextVar[Part | None] = ContextVar("bgadapters.django.part", default=None)


def part_of(request: Any) -> tuple[Part, bool]:
    """Return the part of a request, and whether it is begun here.

    Otherwise it is at work already: the middleware is, or another decorator.
    """
    request = bare(request)
    before = _current.get()
    if before is not None and before.request is request and before.queue.is_open:
        return before, False
    return Part(request, before), True
