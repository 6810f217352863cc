"""Make a response with its queue at hand: the part that decorator and middleware share.

Sync and async counterparts: enter the queue, discard its tasks if the view raises, and
watch a streamed body, which may still raise half way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isawaitable
from typing import Any

from django.http import FileResponse
from django.http.response import HttpResponseBase

from bgadapters.adapters import BackgroundTasks, BackgroundTasksError, enter, leave, mode
from bgadapters.django.request import ASGIQueue, queue_of


def respond(request: Any, view: Callable[[], Any]) -> Any:
    """Call a view with the queue of its request as the current one."""
    queue = queue_of(request)
    previous = enter(queue)
    try:
        response = view()
    except BaseException as exc:
        queue.discard(exc)
        raise
    finally:
        leave(queue, previous)
    if not isinstance(response, HttpResponseBase) and isawaitable(response):
        # View.dispatch of an async view: a function that gives a coroutine
        return arespond(request, lambda: response)
    response = _watch(response, queue)
    if isinstance(queue, ASGIQueue):
        queue.wait_for_capacity()
    if previous is not queue:
        mode.active.end_response(request, response, queue.release)
    return response


async def arespond(request: Any, view: Callable[[], Awaitable[Any]]) -> Any:
    """Await a view with the queue of its request as the current one."""
    queue = queue_of(request)
    previous = enter(queue)
    try:
        response = await view()
    except BaseException as exc:
        queue.discard(exc)
        raise
    finally:
        leave(queue, previous)
    response = _watch(response, queue)
    if isinstance(queue, ASGIQueue):
        await queue.await_capacity()
    if previous is not queue:
        await mode.active.aend_response(request, response, queue.arelease)
    return response


class AnsweredException(BackgroundTasksError):  # noqa: N818  it stands for one, is never raised
    """A framework above Django has made a response of an exception, and keeps it to itself."""


def _watch(response: Any, queue: BackgroundTasks) -> Any:
    """Discard the tasks of a view that failed inside its framework, or whose body raises later.

    Django REST framework marks responses to exceptions with ``exception = True``. A file
    stays the file that servers send.
    """
    if getattr(response, "exception", None) is True:
        queue.discard(AnsweredException(f"status {response.status_code}"))
    if _is_stream(response) and not isinstance(response, FileResponse):
        watched = _awatched if response.is_async else _watched
        response.streaming_content = watched(response.streaming_content, queue)
    return response


def _is_stream(response: Any) -> bool:
    return isinstance(response, HttpResponseBase) and response.streaming


def _watched(chunks: Iterator[bytes], queue: BackgroundTasks) -> Iterator[bytes]:
    previous = enter(queue)
    try:
        yield from chunks
    except Exception as exc:
        queue.close(exc)
        raise
    finally:
        leave(queue, previous)
    mode.active.end_stream(queue.release)


async def _awatched(chunks: AsyncIterator[bytes], queue: BackgroundTasks) -> AsyncIterator[bytes]:
    previous = enter(queue)
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as exc:
        queue.close(exc)
        raise
    finally:
        leave(queue, previous)
    await mode.active.aend_stream(queue.arelease)
