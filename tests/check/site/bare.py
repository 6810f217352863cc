"""Settings that name no application."""

from tests.check.site.settings import *  # noqa: F403

ASGI_APPLICATION = WSGI_APPLICATION = None  # type: ignore[assignment]
