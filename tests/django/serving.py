"""Serve views in process: through the two test clients, or as WSGI and ASGI servers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

import bgadapters
from tests.gateways import asgi_calls, wsgi_calls

Log = list[Any]
MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"


def body(text: str = "body") -> HttpResponse:
    """A response."""
    return HttpResponse(text)


def as_async(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same view, async."""

    async def async_view(request: Any) -> Any:
        return view(request)

    return async_view


@dataclass
class Reply:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Host = Callable[[str, str, dict[str, str]], Reply]


def _through_client(method: str, target: str, headers: dict[str, str]) -> Reply:
    client = Client(raise_request_exception=False)
    response: Any = client.generic(method, target, headers=headers)
    body = response.getvalue()
    response.close()
    bgadapters.drain()
    return Reply(response.status_code, body, dict(response.headers))


def _through_async_client(method: str, target: str, headers: dict[str, str]) -> Reply:
    async def main() -> Reply:
        client = AsyncClient(raise_request_exception=False)
        response: Any = await client.generic(method, target, headers=headers)
        if response.streaming and response.is_async:
            body = b"".join([chunk async for chunk in response.streaming_content])
        else:
            body = response.getvalue()
        await bgadapters.adrain()
        return Reply(response.status_code, body, dict(response.headers))

    return asyncio.run(main())


def _through_wsgi(method: str, target: str, headers: dict[str, str]) -> Reply:
    env = wsgi_calls.environ(method, target)
    env.update({f"HTTP_{name.upper().replace('-', '_')}": v for name, v in headers.items()})
    exchange = wsgi_calls.serve(WSGIHandler(), env)
    bgadapters.drain()
    return Reply(int(exchange.status[:3]), exchange.received, dict(exchange.headers))


def _through_asgi(method: str, target: str, headers: dict[str, str]) -> Reply:
    async def main() -> Reply:
        client = asgi_calls.Client()
        await client.request(ASGIHandler(), asgi_calls.http_scope(target, method, headers))
        await bgadapters.adrain()
        start = client.messages[0]
        received = {name.decode(): value.decode() for name, value in start["headers"]}
        return Reply(client.status, client.body, received)

    return asyncio.run(main())


HOSTS: dict[str, Host] = {
    "client": _through_client,
    "async client": _through_async_client,
    "wsgi": _through_wsgi,
    "asgi": _through_asgi,
}


class URLConf:
    """What ``ROOT_URLCONF`` may be in place of a module's name."""

    def __init__(self, views: dict[str, Any]) -> None:
        self.urlpatterns = [path(name, view, name=name or "root") for name, view in views.items()]


class Site:
    """The views being served, with the settings they are served with."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(exc_type, exc, traceback)

    @property
    def is_wsgi(self) -> bool:
        """Whether the handler for WSGI servers is called."""
        return self._host is _through_wsgi

    def serve(self, view: Any = None, /, *, more: Any = None, **settings: Any) -> Self:
        """Serve ``view`` at the root, ``more`` views by name, with these settings."""
        urlconf = URLConf({"": view} if view is not None else {})
        if more is not None:
            urlconf.urlpatterns += URLConf(more).urlpatterns
        self.set(ROOT_URLCONF=urlconf, **settings)
        return self

    def set(self, **settings: Any) -> None:
        """Override settings until the end of the test."""
        self._stack.enter_context(override_settings(**settings))

    def handle_500(self, handler: Any) -> None:
        """Answer with this view where nothing else handles an exception."""
        from django.conf import settings

        settings.ROOT_URLCONF.handler500 = handler

    def get(self, target: str = "/", **headers: str) -> Reply:
        """Get a page, close it, and let its tasks finish."""
        return self.request("GET", target, **headers)

    def request(self, method: str, target: str = "/", **headers: str) -> Reply:
        """Make a request, close its response, and let its tasks finish."""
        return self._host(method, target, {k.replace("_", "-"): v for k, v in headers.items()})
