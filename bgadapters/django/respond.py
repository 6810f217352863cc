"""Make a response with its queue at hand: the part that decorator and middleware share.

Two twins, sync and async: enter the queue, discard its tasks if the view raises, and
watch a streamed body, which may still raise half way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isawaitable
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse
from django.http.response import HttpResponseBase

from bgadapters.core import current, rehearsal
from bgadapters.core.exceptions import BackgroundTasksError
from bgadapters.core.queue import BackgroundTasks
from bgadapters.django.request import ASGIQueue, queue_of


def respond(request: Any, view: Callable[[], Any]) -> Any:
    """Call a view with the queue of its request as the current one."""
    queue = queue_of(request)
    previous = current.enter(queue)
    try:
        response = view()
    except BaseException as exc:
        queue.drop(exc)
        raise
    finally:
        current.leave(queue, previous)
    if not isinstance(response, HttpResponseBase) and isawaitable(response):
        # View.dispatch of an async view: a function that gives a coroutine
        return arespond(request, lambda: response)
    response = _watch(response, queue)
    if isinstance(queue, ASGIQueue) and len(queue):
        queue.runtime.room(queue)
    if previous is not queue and _is_over(request, response):
        queue.release()
    return response


async def arespond(request: Any, view: Callable[[], Awaitable[Any]]) -> Any:
    """Await a view with the queue of its request as the current one."""
    queue = queue_of(request)
    previous = current.enter(queue)
    try:
        response = await view()
    except BaseException as exc:
        queue.drop(exc)
        raise
    finally:
        current.leave(queue, previous)
    response = _watch(response, queue)
    if isinstance(queue, ASGIQueue) and len(queue):
        await queue.runtime.aroom(queue)
    if previous is not queue and _is_over(request, response):
        await queue.arelease()
    return response


def _is_over(request: Any, response: Any) -> bool:
    """Whether a test's tasks run now, since nobody closes the response where the test waits for it.

    A view that was called by hand has no URL. `django.test.AsyncClient` closes on its event loop,
    which cannot wait there; a server, in a thread of its own, after the client has all it wants.
    """
    is_stream = getattr(response, "streaming", False) and not isinstance(response, FileResponse)
    if rehearsal.audience is None or is_stream:  # a stream releases at its end
        return False
    request = getattr(request, "_request", request)
    return (
        request.resolver_match is None
        or isinstance(request, ASGIRequest)
        or "SERVER_SOFTWARE" in request.META
    )


class AnsweredException(BackgroundTasksError):  # noqa: N818  it stands for one, is never raised
    """A framework above Django has made a response of an exception, and keeps it to itself."""


def _watch(response: Any, queue: BackgroundTasks) -> Any:
    """Discard the tasks of a view that failed inside its framework, or whose body raises later.

    Django REST framework marks responses to exceptions with ``exception = True``. A file
    stays the file that servers send.
    """
    if getattr(response, "exception", None) is True:
        queue.drop(AnsweredException(f"status {response.status_code}"))
    if _is_stream(response) and not isinstance(response, FileResponse):
        watched = _awatched if response.is_async else _watched
        response.streaming_content = watched(response.streaming_content, queue)
    return response


def _is_stream(response: Any) -> bool:
    return isinstance(response, HttpResponseBase) and response.streaming


def _watched(chunks: Iterator[bytes], queue: BackgroundTasks) -> Iterator[bytes]:
    previous = current.enter(queue)
    try:
        yield from chunks
    except Exception as exc:
        queue.discard(exc)
        raise
    finally:
        current.leave(queue, previous)
    if rehearsal.audience is not None:
        queue.release()


async def _awatched(chunks: AsyncIterator[bytes], queue: BackgroundTasks) -> AsyncIterator[bytes]:
    previous = current.enter(queue)
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as exc:
        queue.discard(exc)
        raise
    finally:
        current.leave(queue, previous)
    if rehearsal.audience is not None:
        await queue.arelease()
