"""Applications of plain Starlette, and their one page."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from bgadapters.asgi import BackgroundTasksMiddleware


def starlette(endpoint: Any, **options: Any) -> Starlette:
    """An application of one endpoint, with the middleware."""
    options.setdefault("middleware", [Middleware(BackgroundTasksMiddleware)])
    return Starlette(routes=[Route("/", endpoint, methods=["GET", "HEAD"])], **options)


def get(app: Starlette) -> str:
    """Get the one page; a 500 where the application raises."""
    return TestClient(app, raise_server_exceptions=False, follow_redirects=False).get("/").text


class Passing(BaseHTTPMiddleware):
    """Passes the request on."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response
