"""A Django site on a SQLite file, whose view adds a task inside ``transaction.atomic()``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import django
from django.conf import settings

_directory = TemporaryDirectory(prefix="bgadapters-way-")  # removed when the process ends

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(_directory.name) / "db.sqlite3",
        }
    },
    INSTALLED_APPS=["bgadapters.django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of no use",
    USE_TZ=True,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402  after the settings
from django.db import transaction  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from benchmarks import work  # noqa: E402
from benchmarks.apps import recorder  # noqa: E402
from bgadapters.django import HttpRequest, background_tasks  # noqa: E402


@background_tasks
def add(request: HttpRequest) -> JsonResponse:
    with transaction.atomic():
        request.background_tasks.add_task(work.nothing)
    return JsonResponse({"message": "sent"})


urlpatterns = [path("task", add)]

application = recorder.wsgi(get_wsgi_application())
