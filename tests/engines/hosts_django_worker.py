"""Django as its workers import it that are not commands of Django."""

from __future__ import annotations

import django

django.setup()

from tests.engines.hosts_django import celery_app, huey, procrastinate_app  # noqa: E402

__all__ = ["celery_app", "huey", "procrastinate_app"]
