"""What the two sites share: they run in a process of their own, and tell what they have seen."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bgadapters
from tests.gateways import asgi_calls, wsgi_calls

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"


class URLConf:
    """What ``ROOT_URLCONF`` may be in place of a module's name; not that of tests.django, whose
    import would set Django up in another way."""

    def __init__(self) -> None:
        self.urlpatterns: list[Any] = []


def configure(**more: Any) -> None:
    """Set Django up, with the recipes at hand."""
    import django
    from django.conf import settings

    sys.path.insert(0, str(SNIPPETS))
    settings.configure(
        SECRET_KEY="only for tests",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        **more,
    )
    django.setup()


def tell(**seen: Any) -> None:
    """Print what was seen as one line."""
    sys.stdout.write(json.dumps(seen, sort_keys=True) + "\n")
    sys.stdout.flush()


def through_wsgi(path: str, headers: dict[str, str]) -> None:
    """Make a request, and wait for its tasks."""
    from django.core.handlers.wsgi import WSGIHandler

    environ = wsgi_calls.environ("GET", path)
    environ |= {f"HTTP_{name.upper().replace('-', '_')}": v for name, v in headers.items()}
    exchange = wsgi_calls.serve(WSGIHandler(), environ)
    assert exchange.status.startswith("200"), exchange.status
    assert bgadapters.drain() == []


def through_asgi(path: str, headers: dict[str, str]) -> None:
    """Make a request, and wait for its tasks."""
    from django.core.handlers.asgi import ASGIHandler

    async def main() -> None:
        client = asgi_calls.Client()
        await client.request(ASGIHandler(), asgi_calls.http_scope(path, "GET", headers))
        assert client.status == 200
        assert await bgadapters.adrain() == []

    asyncio.run(main())


WAYS: dict[str, Callable[[str, dict[str, str]], None]] = {
    "wsgi": through_wsgi,
    "asgi": through_asgi,
}
