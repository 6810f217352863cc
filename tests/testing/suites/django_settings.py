"""The settings of the Django suite; the environment tells which database."""

from __future__ import annotations

import os

ALLOWED_HOSTS = ["*"]
DATABASES = {
    "sqlite": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "postgresql": {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "NAME": "postgres",
            "USER": "postgres",
            "TEST": {"NAME": f"bgadapters_test_{os.getpid()}"},
        }
    },
}[os.environ.get("SUITE_DATABASE", "sqlite")]
INSTALLED_APPS = [
    "bgadapters.django",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "rest_framework",
]
ROOT_URLCONF = os.environ.get("SUITE_URLS", "test_django_site")
SECRET_KEY = "only for tests"
STATIC_URL = "/static/"
USE_TZ = True
