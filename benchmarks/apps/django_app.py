"""A Django site: one view, with this library, with work in ``response.close``, and others."""

from __future__ import annotations

import threading
from collections.abc import Callable

from benchmarks import work
from benchmarks.apps import django_settings

django_settings.set_up(urlconf=__name__)

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from bgadapters.django import HttpRequest as OurRequest  # noqa: E402
from bgadapters.django import background_tasks  # noqa: E402

TASKS: dict[str, Callable[[], None]] = {
    "nothing": work.nothing,
    "sleep": work.sleep,
    "compute": work.compute,
}
LOCAL_TASKS = {name: django_settings.local_task(func) for name, func in TASKS.items()}


class ClosingResponse(JsonResponse):
    """A response that does its work when it is closed."""

    work: Callable[[], None]

    def close(self) -> None:
        super().close()
        self.work()


def none(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"message": "sent"})


@background_tasks
def ours(request: OurRequest, task: str) -> JsonResponse:
    request.background_tasks.add_task(TASKS[task])
    return JsonResponse({"message": "sent"})


def in_close(_: HttpRequest, task: str) -> JsonResponse:
    response = ClosingResponse({"message": "sent"})
    response.work = TASKS[task]
    return response


def in_a_thread(_: HttpRequest, task: str) -> JsonResponse:
    threading.Thread(target=TASKS[task]).start()
    return JsonResponse({"message": "sent"})


def in_local_tasks(_: HttpRequest, task: str) -> JsonResponse:
    LOCAL_TASKS[task].enqueue()
    return JsonResponse({"message": "sent"})


def finished(_: HttpRequest) -> JsonResponse:
    return JsonResponse(work.finished(), safe=False)


urlpatterns = [
    path("none", none),
    path("bgadapters/<task>", ours),
    path("close/<task>", in_close),
    path("thread/<task>", in_a_thread),
    path("local/<task>", in_local_tasks),
    path("finished", finished),
]

application = WSGIHandler()
