"""Every mix of sync and async: of views, tasks and streamed bodies."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpResponse, StreamingHttpResponse

import bgadapters
from bgadapters import add_task
from tests.django.databases import select_one
from tests.django.serving import Log, Site, as_async


@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("task_is", ["async", "async with a query", "sync around async"])
def test_a_task_may_be_of_another_kind_than_its_view(
    handler: Site, log: Log, serve: Any, view_is: str, task_is: str
) -> None:
    async def plain() -> None:
        await asyncio.sleep(0)
        log.append((1,))

    async def with_a_query() -> None:
        log.append(await sync_to_async(select_one)())

    def around() -> None:
        async_to_sync(with_a_query)()

    tasks = {"async": plain, "async with a query": with_a_query, "sync around async": around}

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(tasks[task_is])
        return HttpResponse("body")

    assert serve(handler, view if view_is == "sync" else as_async(view)).get().body == b"body"
    assert log == [(1,)]


# Django consumes a stream of the other kind at once, and warns that it does.
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
# It does not close the request's body where a stream breaks off under ASGI.
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("stream_is", ["sync", "async"])
def test_a_stream_of_either_kind_from_a_view_of_either_kind(
    handler: Site, log: Log, serve: Any, view_is: str, stream_is: str, fails: bool
) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half "
        add_task(log.append, "added on the way")
        if fails:
            raise KeyError
        yield b"whole"

    async def achunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            await asyncio.sleep(0)
            yield chunk

    def view(request: Any) -> StreamingHttpResponse:
        request.background_tasks.add_task(log.append, "before")
        request.background_tasks.options(always=True).add_task(log.append, "always")
        return StreamingHttpResponse(chunks() if stream_is == "sync" else achunks())

    gzip = "django.middleware.gzip.GZipMiddleware"
    serve(handler, view if view_is == "sync" else as_async(view), gzip)
    if not fails:
        assert handler.get().body == b"half whole"
        assert log == ["before", "always", "added on the way"]
        return
    with pytest.raises(KeyError):
        handler.get()
    bgadapters.drain()
    gc.collect()  # a queue that was never released would warn
    assert log == ["always"]
