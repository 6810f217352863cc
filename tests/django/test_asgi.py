"""``bgadapters.django.asgi``: the server's call is open while tasks run."""

from __future__ import annotations

import asyncio

import pytest
from django.http import HttpResponse
from django.utils import translation

from bgadapters import drain
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import Log, Site


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
