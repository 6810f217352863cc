"""Its views: they are imported when the first one is looked for."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from tests.durable_site.tasks import write


def add(request: Any) -> HttpResponse:
    """Add a task; every other one in a transaction."""
    number = int(request.GET["number"])
    if number % 2:
        request.background_tasks.add_task(write, number)
    else:
        with transaction.atomic():
            request.background_tasks.add_task(write, number)
    return HttpResponse(str(number))


def empty(request: Any) -> HttpResponse:
    return HttpResponse()


urlpatterns = [path("add", add), path("is-it-up", empty)]
