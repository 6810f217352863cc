"""Checked, never run: Django views, whose requests have the queue."""

from __future__ import annotations

from typing import assert_type

from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django_tasks import task

import bgadapters
from bgadapters.django import HttpRequest, background_tasks


def write_notification(email: str, message: str = "") -> None: ...


@background_tasks
def view(request: HttpRequest, email: str) -> HttpResponse:
    assert_type(request.background_tasks, bgadapters.BackgroundTasks)
    request.background_tasks.add_task(write_notification, email, message="hello")
    request.background_tasks.add_task(write_notification, 1)  # type: ignore[arg-type]
    request.background_tasks.options(always=True).add_task(write_notification)  # type: ignore[call-arg]
    return HttpResponse(request.GET["x"])


@task(priority=1)
def welcome(email: str, message: str = "") -> None: ...


@background_tasks
def handing_over(request: HttpRequest) -> HttpResponse:
    request.background_tasks.add_task(welcome.enqueue, "a@b.example", message="hello")
    request.background_tasks.add_task(welcome.enqueue, 1)  # type: ignore[arg-type]
    request.background_tasks.add_task(welcome.enqueue)  # type: ignore[call-arg]
    return HttpResponse()


@background_tasks
async def async_view(request: HttpRequest, email: str) -> HttpResponse:
    return HttpResponse(email)


@method_decorator(background_tasks, name="dispatch")
class ClassBasedView(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


def the_signature_is_kept(request: HttpRequest) -> None:
    assert_type(view(request, "a@b.example"), HttpResponse)
    view(request, 1)  # type: ignore[arg-type]


async def the_async_signature_is_kept(request: HttpRequest) -> None:
    assert_type(await async_view(request, email="a@b.example"), HttpResponse)
    await async_view(request)  # type: ignore[call-arg]


background_tasks("view")  # type: ignore[call-overload]
urlpatterns = [path("<email>", view), path("", ClassBasedView.as_view())]
