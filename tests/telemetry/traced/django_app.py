"""Django under ASGI, with the instrumentors of both; one view is sync and one is async."""

from __future__ import annotations

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from opentelemetry.instrumentation.django import DjangoInstrumentor

from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor
from tests.telemetry.traced import work

work.export()
settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["bgadapters.django"],
    MIDDLEWARE=["bgadapters.django.BackgroundTasksMiddleware"],
)
DjangoInstrumentor().instrument()
BackgroundTasksInstrumentor().instrument()
django.setup()

import bgadapters  # noqa: E402
from bgadapters.django.asgi import get_asgi_application  # noqa: E402


def add(request: HttpRequest, who: str) -> HttpResponse:
    work.add_all(bgadapters.add_task, who)
    return HttpResponse("added")


async def aadd(request: HttpRequest, who: str) -> HttpResponse:
    work.add_all(bgadapters.add_task, who)
    return HttpResponse("added")


urlpatterns = [re_path("^add/(.*sync.*)$", add), re_path("^add/(.*)$", aadd)]
application = get_asgi_application()
