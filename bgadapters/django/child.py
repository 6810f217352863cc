"""Django in a process that was started for tasks."""

from __future__ import annotations

from importlib import import_module

import django
from django.conf import settings

from bgadapters.adapters import FrameworkHooks


def set_up(configured_by: str = "") -> FrameworkHooks:
    """Set Django up as ``manage.py`` does; return what is entered around tasks.

    Args:
        configured_by: the module that calls ``settings.configure()`` when it is imported. Default:
            the settings are those of ``DJANGO_SETTINGS_MODULE``.
    """
    if configured_by and not settings.configured:
        import_module(configured_by)
    django.setup()
    from bgadapters.django.runtime import get_runtime

    return get_runtime().hooks
