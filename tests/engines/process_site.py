"""A Django site of one module: its settings, its URLs, its view and the task of that."""

from __future__ import annotations

from typing import Any

SECRET_KEY = "for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "bgadapters.django"]
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.engines.process_urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
BACKGROUND_TASKS: dict[str, Any] = {
    "ENGINES": {
        "process": {
            "BACKEND": "bgadapters.engines.process.ProcessEngine",
            "OPTIONS": {"max_processes": 1},
        }
    }
}
