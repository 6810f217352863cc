"""Django on platforms that freeze a process: tasks have run when the handler returns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

import bgadapters
from bgadapters.django import background_tasks
from bgadapters.django.asgi import get_asgi_application
from bgadapters.django.wsgi import get_wsgi_application
from tests.django.serving import MIDDLEWARE
from tests.gateways.serverless import VERSIONS, WSGI_ADAPTERS, add, check_held, log, mangum
from tests.our_log import OurLog


@background_tasks
def text(_: Any) -> HttpResponse:
    add()
    return HttpResponse("text", content_type="text/plain")


@background_tasks
def stream(_: Any) -> StreamingHttpResponse:
    add()
    return StreamingHttpResponse(iter(["te", "xt"]), content_type="text/plain")


@background_tasks
def nothing(_: Any) -> HttpResponse:
    add()
    return HttpResponse(status=204)


@background_tasks
def aborted(_: Any) -> HttpResponse:
    add()
    raise Http404


class Urls:
    urlpatterns = (
        path("text", text),
        path("stream", stream),
        path("nothing", nothing),
        path("abort", aborted),
    )


@pytest.fixture(params=["decorator", "middleware"], autouse=True)
def _site(request: pytest.FixtureRequest) -> Iterator[None]:
    log.clear()
    with override_settings(
        ROOT_URLCONF=Urls,
        MIDDLEWARE=[MIDDLEWARE] if request.param == "middleware" else [],
        BACKGROUND_TASKS={"HOLD_RESPONSE": True},
    ):
        yield
        assert bgadapters.drain(10) == []


@pytest.mark.parametrize("adapter", WSGI_ADAPTERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_wsgi(our_log: OurLog, adapter: str, version: str) -> None:
    check_held(WSGI_ADAPTERS[adapter](get_wsgi_application()), version, our_log)


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous:Warning")
@pytest.mark.parametrize("version", VERSIONS)
def test_asgi_with_mangum(our_log: OurLog, version: str) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        check_held(mangum(get_asgi_application()), version, our_log)
    finally:
        loop.close()
        asyncio.set_event_loop(None)
