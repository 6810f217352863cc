"""The views of the conformance application in Django: a URLconf, imported when one is asked."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.urls import path
from django.utils import translation

from bgadapters import QueueFullError
from bgadapters.django import HttpRequest as Request
from bgadapters.django import background_tasks
from tests.hosts import work
from tests.hosts.events import report

FILE = work.make_file()


@background_tasks
def view(request: Request, kind: str) -> Any:
    try:
        run = work.add_plan(request.background_tasks, request.GET.dict())
    except QueueFullError:
        return HttpResponse("full", status=503)
    return RESPONSES[kind](run)


@background_tasks
async def async_view(request: Request, kind: str) -> Any:
    run = work.add_plan(request.background_tasks, request.GET.dict())
    if kind == "wait":
        await work.await_in_view(run)
        kind = "length"
    if kind == "large-stream":
        return StreamingHttpResponse(work.large_achunks())
    if kind == "stream":
        return StreamingHttpResponse(work.achunks(run))
    if kind == "stream-fails":
        return StreamingHttpResponse(work.achunks(run, raises=True))
    return RESPONSES[kind](run)


@background_tasks
def context(request: Request) -> HttpResponse:
    request.background_tasks.add_task(context_task, request.GET["run"])
    return HttpResponse("context")


def context_task(run: str) -> None:
    report(run, "context", translation.get_language())


def favicon(_: HttpRequest) -> HttpResponse:
    return HttpResponse("up")


def fails(_: str) -> Any:
    raise work.ViewError("the view failed")


def forbids(_: str) -> Any:
    raise PermissionDenied


RESPONSES = {
    "length": lambda run: HttpResponse(work.BODY),
    "stream": lambda run: StreamingHttpResponse(work.chunks(run)),
    "stream-fails": lambda run: StreamingHttpResponse(work.chunks(run, raises=True)),
    "no-content": lambda run: HttpResponse(status=204),
    "not-modified": lambda run: HttpResponseNotModified(),
    "redirect": lambda run: HttpResponseRedirect("/length"),
    "empty": lambda run: HttpResponse(),
    "file": lambda run: FileResponse(FILE.open("rb")),
    "large": lambda run: HttpResponse(work.LARGE),
    "large-stream": lambda run: StreamingHttpResponse(work.large_chunks()),
    "error": lambda run: HttpResponse("error", status=500),
    "wait": lambda run: HttpResponse(work.wait_in_view(run)),
    "threads": lambda run: HttpResponse(work.threads()),
    "fails": fails,
    "forbids": forbids,
}

urlpatterns = [
    path("context", context),
    path("async/<str:kind>", async_view),
    path("<str:kind>", view),
]
