"""The Django site under ASGI, with async views.

``application`` passes a request on by the beginning of its path: this library's view is behind its
ASGI application, the others are behind Django's own.
"""

from __future__ import annotations

from typing import Any

from benchmarks.apps import django_settings

django_settings.set_up(urlconf=__name__)

from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from benchmarks import work  # noqa: E402
from benchmarks.apps.django_app import LOCAL_TASKS, TASKS, ClosingResponse  # noqa: E402
from bgadapters.django import HttpRequest as OurRequest  # noqa: E402
from bgadapters.django import background_tasks  # noqa: E402
from bgadapters.django.asgi import get_asgi_application  # noqa: E402


async def none(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"message": "sent"})


@background_tasks
async def ours(request: OurRequest, task: str) -> JsonResponse:
    request.background_tasks.add_task(TASKS[task])
    return JsonResponse({"message": "sent"})


async def in_close(_: HttpRequest, task: str) -> JsonResponse:
    response = ClosingResponse({"message": "sent"})
    response.work = TASKS[task]
    return response


async def in_local_tasks(_: HttpRequest, task: str) -> JsonResponse:
    await LOCAL_TASKS[task].aenqueue()
    return JsonResponse({"message": "sent"})


async def finished(_: HttpRequest) -> JsonResponse:
    return JsonResponse(work.finished(), safe=False)


urlpatterns = [
    path("none", none),
    path("bgadapters/<task>", ours),
    path("close/<task>", in_close),
    path("local/<task>", in_local_tasks),
    path("finished", finished),
]

_ours, _theirs = get_asgi_application(), ASGIHandler()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serve a request of either application; the lifespan is that of ours."""
    is_ours = scope["type"] == "lifespan" or scope["path"].startswith("/bgadapters")
    await (_ours if is_ours else _theirs)(scope, receive, send)
