"""What the tests of load ask of Django: a task a request, and what the process holds."""

from __future__ import annotations

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.hosts import journal, work

settings.configure(
    ALLOWED_HOSTS=["*"],
    BACKGROUND_TASKS=work.settings_from_environment(),
    INSTALLED_APPS=["bgadapters.django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402  after the settings
from django.core.wsgi import get_wsgi_application  # noqa: E402

from bgadapters.django import HttpRequest as Request  # noqa: E402
from bgadapters.django import background_tasks  # noqa: E402


@background_tasks
def add(request: Request) -> HttpResponse:
    return HttpResponse(journal.add(request.background_tasks, request.GET.dict()))


def state(_: HttpRequest) -> JsonResponse:
    return JsonResponse(journal.state())


urlpatterns = [path("task", add), path("state", state)]

wsgi_application = get_wsgi_application()
asgi_application = get_asgi_application()

journal.say_loaded()
