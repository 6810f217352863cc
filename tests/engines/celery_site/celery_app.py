"""The Celery app of the project, as Celery's own documentation has it."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.engines.celery_site.settings")

app = Celery("celery_site")
app.config_from_object("django.conf:settings", namespace="CELERY")
