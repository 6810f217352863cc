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
from django.http import FileResponse, HttpResponse
from django.http.response import HttpResponseBase

from bgadapters.adapters import BackgroundTasksError, enter, leave
from bgadapters.django.layer import Part, part_of
from bgadapters.django.request import ASGIQueue, Closing
from bgadapters.django.unavailable import answer


def respond(request: Any, view: Callable[[], Any]) -> Any:
    """Call a view with the queue of its request as the current one."""
    part, is_first = part_of(request)
    closing = part.begin() if is_first else None
    try:
        response = view()
    except BaseException as exc:
        return _failed(part, closing, is_first, exc)
    if not isinstance(response, HttpResponseBase) and isawaitable(response):
        # View.dispatch of an async view: a function that gives a coroutine
        if is_first:
            part.pause(closing)
        return arespond(request, lambda: response)
    if is_first:
        try:
            part.confirm()
        except BaseException as exc:
            return _failed(part, closing, is_first, exc)
        part.pause(closing)
    is_stream = _watch(response, part)
    if isinstance(part.queue, ASGIQueue):
        part.queue.wait_for_capacity()
    if is_first:
        part.make(response, is_stream, closing)
    return response


async def arespond(request: Any, view: Callable[[], Awaitable[Any]]) -> Any:
    """Await a view with the queue of its request as the current one."""
    part, is_first = part_of(request)
    closing = part.begin() if is_first else None
    try:
        response = await view()
        if is_first:
            await part.aconfirm()
    except BaseException as exc:
        return _failed(part, closing, is_first, exc)
    if is_first:
        part.pause(closing)
    is_stream = _watch(response, part)
    if isinstance(part.queue, ASGIQueue):
        await part.queue.await_capacity()
    if is_first:
        await part.amake(response, is_stream, closing)
    return response


def _failed(
    part: Part, closing: Closing | None, is_first: bool, exception: BaseException
) -> HttpResponse:
    """An exception has escaped the view: return what we answer to it, or raise it."""
    if not is_first:
        part.discard(exception)
        raise exception
    part.pause(closing)
    part.fail(exception)
    return _answered(part, exception)


def _answered(part: Part, exception: BaseException) -> HttpResponse:
    response = answer(part.request, exception) if part.is_answered(exception) else None
    if response is None:
        raise exception
    return response


class AnsweredException(BackgroundTasksError):  # noqa: N818  it stands for one, is never raised
    """A framework above Django has made a response of an exception, and keeps it to itself."""


def _watch(response: Any, part: Part) -> bool:
    """Discard the tasks of a view that failed inside its framework, or whose body raises later.

    Django REST framework marks responses to exceptions with ``exception = True``. A file
    stays the file that servers send.

    Returns:
        Whether the body is a stream.
    """
    if part.outer is None:
        part.queue.note_response(getattr(response, "status_code", None))
    if getattr(response, "exception", None) is True:
        part.discard(AnsweredException(f"status {response.status_code}"))
    if not getattr(response, "is_rendered", True) and "render" not in vars(response):
        response.render = _watched_rendering(response, part)
    is_streaming = isinstance(response, HttpResponseBase) and response.streaming
    if not is_streaming or isinstance(response, FileResponse):
        return False
    stream: Any = response
    watched = _awatched if stream.is_async else _watched
    stream.streaming_content = watched(stream.streaming_content, part)
    return True


def _watched_rendering(response: Any, part: Part) -> Callable[[], Any]:
    """The ``render`` of a response, once: as a method it is back before a cache pickles it."""
    render = response.render

    def watched() -> Any:
        with _rendering(response, part):
            rendered = render()
        try:
            part.confirm()
        except BaseException as exc:
            part.discard(exc)
            return _answered(part, exc)
        return rendered

    async def awatched() -> Any:
        with _rendering(response, part):
            rendered = await render()
        try:
            await part.aconfirm()
        except BaseException as exc:
            part.discard(exc)
            return _answered(part, exc)
        return rendered

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
        part.confirm()
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
        await part.aconfirm()
    except Exception as exc:
        part.close_stream(exc)
        raise
    finally:
        leave(part.queue, previous)
    await part.aend_stream()
