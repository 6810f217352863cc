"""``bgadapters.django.asgi``: the server's call is open while tasks run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils import translation

from bgadapters import drain
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import Log, Site
from tests.gateways import asgi_calls
from tests.gateways.asgi_calls import Lifespan


def test_the_asgi_application_shares_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``bgadapters.django.asgi`` the server's call is open while the tasks run."""
    from bgadapters.django import asgi
    from tests.gateways import asgi_calls

    log: Log = []

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, translation.get_language())
        return HttpResponse("body")

    async def main() -> None:
        client = asgi_calls.Client()
        scope = asgi_calls.http_scope("/", "GET", {})
        await client.request(asgi.get_asgi_application(), scope)
        assert client.body == b"body"
        assert log == ["en"]  # and nobody had to drain

    monkeypatch.setattr("django.setup", lambda **_: None)
    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())
    assert drain() == []


def test_it_answers_the_lifespan_protocol_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django would raise, and whoever watches its handler would report that at each start."""
    from django.core.handlers.asgi import ASGIHandler

    from bgadapters.django import asgi

    seen: list[str] = []
    serve = ASGIHandler.__call__

    async def watched(self: Any, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        await serve(self, scope, receive, send)

    async def main() -> None:
        app = asgi.get_asgi_application()
        lifespan = Lifespan(app)
        assert await lifespan.startup() == "lifespan.startup.complete"
        client = asgi_calls.Client()
        await client.request(app)
        assert client.status == 404
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"

    monkeypatch.setattr(ASGIHandler, "__call__", watched)
    monkeypatch.setattr("django.setup", lambda **_: None)
    with Site(lambda *_: pytest.fail("not called")) as site:
        site.serve()
        asyncio.run(main())
    assert seen == ["http"]
