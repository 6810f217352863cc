"""What the shim does for the probe of a check: it hands over the queues that it opens."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import RequestFactory

from bgadapters.core.api import probe
from bgadapters.django.request import queue_of
from bgadapters.django.runtime import get_runtime


def asgi_request(headers: list[tuple[bytes, bytes]]) -> ASGIRequest:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    return ASGIRequest(scope, None)  # type: ignore[arg-type]  # there is no body to read


@pytest.mark.parametrize("header", [None, "token:1"])
@pytest.mark.parametrize("place", ["django", "django-asgi"])
def test_a_queue_is_handed_to_the_probe(
    monkeypatch: pytest.MonkeyPatch, place: str, header: str | None
) -> None:
    """Once a request, with the header of the request, where the process has a probe."""
    seen: list[Any] = []
    monkeypatch.setattr(get_runtime(), "check_token", "token")
    monkeypatch.setattr(probe, "visit", lambda *arguments: seen.append(arguments))
    request: Any
    if place == "django":
        request = RequestFactory().get("/", headers={"Bgadapters-Check": header} if header else {})
    else:
        request = asgi_request([(b"bgadapters-check", header.encode())] if header else [])
    queue = queue_of(request)
    assert queue_of(request) is queue
    assert seen == [(queue, header, place, None)]
