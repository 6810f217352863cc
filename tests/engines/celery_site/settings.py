"""A project of Django with a Celery app; its engine is made out of these settings alone."""

from __future__ import annotations

import os
from typing import Any

ALLOWED_HOSTS = ["*"]
BACKGROUND_TASKS = {
    "ENGINES": {
        "heavy": {
            "BACKEND": "bgadapters.engines.celery.CeleryEngine",
            "OPTIONS": {"app": "tests.engines.celery_site.celery_app:app"},
        }
    },
}
CELERY_BROKER_URL = os.environ["TEST_CELERY_BROKER"]
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_DEFAULT_QUEUE = os.environ["TEST_CELERY_QUEUE"]
DATABASES: dict[str, Any] = {}
INSTALLED_APPS = ["bgadapters.django"]
LANGUAGE_CODE = "en"
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.engines.celery_site.urls"
SECRET_KEY = "only for tests"
USE_I18N = True
