"""The settings of a worker of the backend ``django_tasks_db``; see `tasks_bench`."""

from __future__ import annotations

import json
import os

BACKGROUND_TASKS = {
    "ENGINES": {
        "it": {
            "BACKEND": "bgadapters.engines.django_tasks.DjangoTasksEngine",
            "OPTIONS": {"alias": os.environ["TEST_TASKS_ALIAS"]},
        }
    },
    "NAME": "tests",
    "ON_EVENT": "tests.engines.work.tell",
    "TASK_MIDDLEWARE": ["tests.engines.work.OfTenant"],
    "TASK_MODULES": ["tests.engines.work"],
}
DATABASES = {"default": json.loads(os.environ["TEST_TASKS_DATABASE"])}
INSTALLED_APPS = ["django_tasks_db", "bgadapters.django"]
SECRET_KEY = "only for tests"
TASKS = {
    alias: {"BACKEND": "django_tasks_db.DatabaseBackend"}
    for alias in ("default", os.environ["TEST_TASKS_ALIAS"])
}
USE_TZ = True
