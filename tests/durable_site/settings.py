"""Its settings, and its applications for WSGI and ASGI servers."""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Any

if json.loads(os.environ["DATABASE"])["ENGINE"].endswith(".mysql"):
    import_module("pymysql").install_as_MySQLdb()

ALLOWED_HOSTS = ["*"]
BACKGROUND_TASKS = {"STORE": "django://default?lease=1", "MAX_WORKERS": 2}
DATABASES = {
    alias: json.loads(os.environ["DATABASE"])
    for alias in ("default", os.environ.get("ALIAS", "default"))
}
INSTALLED_APPS = ["bgadapters.django", "bgadapters.django.durable"]
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.durable_site.urls"
SECRET_KEY = "only for tests"


def wsgi() -> Any:
    from bgadapters.django.wsgi import get_wsgi_application

    return get_wsgi_application()


def asgi() -> Any:
    from bgadapters.django.asgi import get_asgi_application

    return get_asgi_application()
