"""Make a response with its queue at hand: the part that decorator and middleware share.

Sync and async counterparts: enter the queue, discard its tasks if the view raises, and
watch what is made later, which may still raise: a template, a streamed body.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import FileResponse
from django.http.response import HttpResponseBase

from bgadapters.adapters import BackgroundTasksError, enter, leave
from bgadapters.django.layer import Part, part_of
from bgadapters.django.request import ASGIQueue


def respond(request: Any, view: Callable[[], Any]) -> Any:
    """Call a view with the queue of its request as the current one."""
    part, is_first = part_of(request)
    if is_first:
        part.begin()
    try:
        response = view()
    except BaseException as exc:
        _fail(part, is_first, exc)
        raise
    if is_first:
        part.pause()
    if not isinstance(response, HttpResponseBase) and isawaitable(response):
        # View.dispatch of an async view: a function that gives a coroutine
        return arespond(request, lambda: response)
    _watch(response, part)
    if isinstance(part.queue, ASGIQueue):
        part.queue.wait_for_capacity()
    if is_first:
        part.make(response, _is_stream(response))
    return response


async def arespond(request: Any, view: Callable[[], Awaitable[Any]]) -> Any:
    """Await a view with the queue of its request as the current one."""
    part, is_first = part_of(request)
    if is_first:
        part.begin()
    try:
        response = await view()
    except BaseException as exc:
        _fail(part, is_first, exc)
        raise
    if is_first:
        part.pause()
    _watch(response, part)
    if isinstance(part.queue, ASGIQueue):
        await part.queue.await_capacity()
    if is_first:
        await part.amake(response, _is_stream(response))
    return response


def _fail(part: Part, is_first: bool, exception: BaseException) -> None:
    if is_first:
        part.pause()
        part.fail(exception)
    else:
        part.discard(exception)


class AnsweredException(BackgroundTasksError):  # noqa: N818  it stands for one, is never raised
    """A framework above Django has made a response of an exception, and keeps it to itself."""


def _watch(response: Any, part: Part) -> None:
    """Discard the tasks of a view that failed inside its framework, or whose body raises later.

    Django REST framework marks responses to exceptions with ``exception = True``. A file
    stays the file that servers send.
    """
    if part.outer is None:
        part.queue.note_response(getattr(response, "status_code", None))
    if getattr(response, "exception", None) is True:
        part.discard(AnsweredException(f"status {response.status_code}"))
    if not getattr(response, "is_rendered", True) and "render" not in vars(response):
        response.render = _watched_rendering(response, part)
    if _is_stream(response):
        watched = _awatched if response.is_async else _watched
        response.streaming_content = watched(response.streaming_content, part)


def _is_stream(response: Any) -> bool:
    is_streaming = isinstance(response, HttpResponseBase) and response.streaming
    return is_streaming and not isinstance(response, FileResponse)


def _watched_rendering(response: Any, part: Part) -> Callable[[], Any]:
    """The ``render`` of a response, once: as a method it is back before a cache pickles it."""
    render = response.render

    def watched() -> Any:
        with _rendering(response, part):
            return render()

    async def awatched() -> Any:
        with _rendering(response, part):
            return await render()

    return awatched if iscoroutinefunction(render) else watched


@contextmanager
def _rendering(response: Any, part: Part) -> Iterator[None]:
    del response.render
    previous = enter(part.queue)
    try:
        yield
    except Exception as exc:
        part.discard(exc)
        raise
    finally:
        leave(part.queue, previous)


def _watched(chunks: Iterator[bytes], part: Part) -> Iterator[bytes]:
    previous = enter(part.queue)
    try:
        yield from chunks
    except Exception as exc:
        part.close_stream(exc)
        raise
    finally:
        leave(part.queue, previous)
    part.end_stream()


async def _awatched(chunks: AsyncIterator[bytes], part: Part) -> AsyncIterator[bytes]:
    previous = enter(part.queue)
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as exc:
        part.close_stream(exc)
        raise
    finally:
        leave(part.queue, previous)
    await part.aend_stream()
