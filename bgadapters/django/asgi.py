"""Django's ASGI application, with a shutdown that waits for tasks.

Django does not speak the lifespan protocol, and no server waits for what runs outside of
an open request. In ``asgi.py``, change one import line::

    from bgadapters.django.asgi import get_asgi_application
"""

from __future__ import annotations

from typing import Any

from django.core import asgi

from bgadapters.asgi import BackgroundTasksMiddleware
from bgadapters.asgi_types import ASGIApp
from bgadapters.django.installation import note_asgi_application
from bgadapters.django.runtime import get_runtime


def get_asgi_application() -> BackgroundTasksMiddleware:
    """Return Django's ASGI application, inside a middleware that runs the tasks of its requests.

    Servers then count a request as open while its tasks run, and at ``lifespan.shutdown``
    what still runs is waited for.

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """
    application = asgi.get_asgi_application()
    note_asgi_application()
    return BackgroundTasksMiddleware(_WithLifespan(application), runtime=get_runtime())


class _WithLifespan:
    """Answers the lifespan protocol, which Django raises at: monitors would report that."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
