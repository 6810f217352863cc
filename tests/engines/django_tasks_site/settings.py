"""Its settings. ``TEST_DATABASE`` is a file of SQLite."""

from __future__ import annotations

import os
from importlib.util import find_spec

BACKGROUND_TASKS = {
    "ENGINES": {
        "tasks": {
            "BACKEND": "bgadapters.engines.django_tasks.DjangoTasksEngine",
            "OPTIONS": {"alias": "database"},
        }
    },
    "TASK_MODULES": ["tests.engines.django_tasks_site."],
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["TEST_DATABASE"],
        "OPTIONS": {"timeout": 20},
    }
}
INSTALLED_APPS = ["django_tasks_db", "bgadapters.django"]
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.engines.django_tasks_site.urls"
SECRET_KEY = "only for tests"
USE_TZ = True
TASKS = {
    "default": {
        "BACKEND": "bgadapters.django.tasks.PostResponseBackend"
        if find_spec("django.tasks")
        else "bgadapters.django.tasks_backport.PostResponseBackend"
    },
    "database": {"BACKEND": "django_tasks_db.DatabaseBackend"},
}
