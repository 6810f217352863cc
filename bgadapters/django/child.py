"""Django in a process that was started for tasks."""

from __future__ import annotations

import django

from bgadapters.adapters import FrameworkHooks


def set_up() -> FrameworkHooks:
    """Set Django up as ``manage.py`` does; return what is entered around tasks."""
    django.setup()
    from bgadapters.django.runtime import get_runtime

    return get_runtime().hooks
