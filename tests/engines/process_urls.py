"""The view of the site, and its application."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.utils import translation

from bgadapters.django import HttpRequest
from tests.engines import process_apps
from tests.engines.process_work import ask_database

application = get_wsgi_application()


def view(request: HttpRequest, what: str) -> JsonResponse:
    tasks = request.background_tasks
    if what == "database":
        with translation.override("fr"):
            tasks.options(engine="process").add_task(ask_database, str(process_apps.NOTES))
    return JsonResponse(process_apps.add(tasks, what))


urlpatterns = [path("<str:what>", view)]
