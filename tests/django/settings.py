"""The settings of the Django tests; single tests override some of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.django.databases import settings_of

DIRECTORY = Path(tempfile.mkdtemp(prefix="bgadapters-tests-"))  # removed by conftest.py

ALLOWED_HOSTS = ["*"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DATABASES = settings_of(DIRECTORY)
INSTALLED_APPS = ["bgadapters.django", "bgadapters.django.durable", "rest_framework", "ninja"]
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "German")]
MIDDLEWARE: list[str] = []
REST_FRAMEWORK: dict[str, object] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
}
ROOT_URLCONF = "tests.django.settings"
SECRET_KEY = "only for tests"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
TIME_ZONE = "UTC"
USE_TZ = True

urlpatterns: list[object] = []
