"""A view that adds a task."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from django.utils import translation

from tests.engines.celery_site.tasks import greet


def add(request: Any) -> HttpResponse:
    """Add a task, in another language than the default one."""
    with translation.override("de"):
        request.background_tasks.options(engine="heavy").add_task(greet, request.GET["name"])
    return HttpResponse("added")


def empty(request: Any) -> HttpResponse:
    return HttpResponse()


urlpatterns = [path("add", add), path("is-it-up", empty)]
