"""Django with every engine: settings, views and applications. A worker of each imports this."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bgadapters import EngineUnavailableError, task_options
from tests.engines import hosts_engines, work
from tests.engines.hosts_engines import celery_app, huey, procrastinate_app, where

__all__ = ["celery_app", "huey", "procrastinate_app"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

# Its settings.

ALLOWED_HOSTS = ["*"]
_OF_TASKS = ["django_tasks_db"] if find_spec("django_tasks_db") else []
_settings = {name.upper(): value for name, value in hosts_engines.settings().items()}
if _OF_TASKS:
    _settings["ENGINES"]["tasks"] = {
        "BACKEND": "bgadapters.engines.django_tasks.DjangoTasksEngine",
        "OPTIONS": {"alias": "database"},
    }
BACKGROUND_TASKS = _settings
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(where.directory) / "django.db"),
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["django.contrib.contenttypes", *_OF_TASKS, "bgadapters.django"]
LANGUAGE_CODE = "en"
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = __name__
SECRET_KEY = "only for tests"
if _OF_TASKS:
    TASKS = {
        "default": {
            "BACKEND": "bgadapters.django.tasks.PostResponseBackend"
            if find_spec("django.tasks")
            else "bgadapters.django.tasks_backport.PostResponseBackend"
        },
        "database": {"BACKEND": "django_tasks_db.DatabaseBackend"},
    }
USE_I18N = True
USE_TZ = True


@task_options()
def report(gate: str) -> None:
    """Say where it ran, once there is such a file."""
    from django.contrib.contenttypes.models import ContentType
    from django.utils import translation

    work.wait(gate)
    work.say("scope", f"{ContentType.objects.exists()} {translation.get_language()}")


# Its views.


def add(request: Any) -> Any:
    from django.http import HttpResponse
    from django.utils import translation

    with translation.override("de"):
        hosts_engines.add(request.background_tasks, report, request.GET)
    return HttpResponse("added")


def empty(_: Any) -> Any:
    from django.http import HttpResponse

    return HttpResponse()


def handler500(_: Any) -> Any:
    from django.http import HttpResponse

    exc = sys.exc_info()[1]
    status = 503 if isinstance(exc, EngineUnavailableError) else 500
    return HttpResponse(f"handled: {exc}", status=status)


def _urls() -> list[Any]:
    from django.urls import path

    return [path("add", add), path("is-it-up", empty)]


def __getattr__(name: str) -> Any:
    """Return what needs Django to be set up, which imports this module for its settings."""
    if name == "urlpatterns":
        return _urls()
    if name == "wsgi":
        from bgadapters.django.wsgi import get_wsgi_application

        return get_wsgi_application()
    if name == "asgi":
        from bgadapters.django.asgi import get_asgi_application

        return get_asgi_application()
    raise AttributeError(name)
