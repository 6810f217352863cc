"""What the conformance applications in Django have in common."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

from tests.hosts import work
from tests.hosts.probe import ASGIProbe, WSGIProbe


def set_up(module: str, *applications: str) -> None:
    """Set Django up.

    Args:
        module: the one that is served.
        applications: what is installed beside the views.
    """
    settings.configure(
        ALLOWED_HOSTS=["*"],
        BACKGROUND_TASKS=work.settings_from_environment(),
        INSTALLED_APPS=applications,
        MIDDLEWARE=[
            "django.middleware.common.CommonMiddleware",
            "django.middleware.http.ConditionalGetMiddleware",
            "django.middleware.locale.LocaleMiddleware",
        ],
        ROOT_URLCONF="tests.hosts.apps.django_views",
        SECRET_KEY="test",
        USE_TZ=True,
        WSGI_APPLICATION=f"{module}.wsgi_application",
    )
    django.setup()


def wsgi() -> Any:
    """Django's WSGI application, watched."""
    from django.core.wsgi import get_wsgi_application

    return WSGIProbe(get_wsgi_application())


def asgi() -> Any:
    """Django's ASGI application, watched."""
    from django.core.asgi import get_asgi_application

    return ASGIProbe(get_asgi_application())
