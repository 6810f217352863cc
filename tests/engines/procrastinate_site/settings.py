"""Its settings, and its application for WSGI servers. ``TEST_DATABASE`` is a URL."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import make_url

_url = make_url(os.environ["TEST_DATABASE"])

ALLOWED_HOSTS = ["*"]
BACKGROUND_TASKS = {
    "ENGINES": {
        "jobs": {
            "BACKEND": "bgadapters.engines.procrastinate.ProcrastinateEngine",
            "OPTIONS": {"timeout": float(os.environ.get("TEST_TIMEOUT", "5"))},
        }
    },
    "STORE": os.environ.get("TEST_STORE"),
    "TASK_MODULES": ["tests.engines.procrastinate_site."],
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _url.host,
        "PORT": _url.port,
        "USER": _url.username,
        "NAME": _url.database,
    }
}
INSTALLED_APPS = ["procrastinate.contrib.django", "bgadapters.django"]
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.engines.procrastinate_site.urls"
SECRET_KEY = "only for tests"
USE_TZ = True


def wsgi() -> Any:
    from bgadapters.django.wsgi import get_wsgi_application

    return get_wsgi_application()
