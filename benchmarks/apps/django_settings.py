"""Django's settings for benchmarks, and tasks of django-tasks-local where that can be had."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import django
from django.conf import settings

HAS_TASKS = find_spec("django_tasks_local") is not None


def set_up(urlconf: str | None = None) -> None:
    """Configure Django, or give it other URLs where it is configured already."""
    if settings.configured:
        if urlconf is not None:
            settings.ROOT_URLCONF = urlconf
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        SECRET_KEY="of no use",
        ROOT_URLCONF=urlconf,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        USE_TZ=True,
        TASKS={"default": {"BACKEND": "django_tasks_local.ThreadPoolBackend"}},
    )
    django.setup()


def local_task(func: Callable[[], object]) -> Any:
    """A task of django-tasks-local; None where it is not installed."""
    if not HAS_TASKS:
        return None
    from django.tasks import task

    return task(func)
