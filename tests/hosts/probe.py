"""Report what the server is given, from outside of everything that is tested."""

from __future__ import annotations

from collections.abc import Iterator
from io import IOBase
from typing import Any
from urllib.parse import parse_qsl

from tests.hosts.events import report


class WSGIProbe:
    """Report when the server closes a response, before anything below hears of it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        run = dict(parse_qsl(environ.get("QUERY_STRING", ""))).get("run", "")
        body = self._app(environ, start_response)
        if not _is_file(body, environ.get("wsgi.file_wrapper")):
            return _Body(body, run)
        report(run, "file wrapper")
        close = body.close

        def closed() -> None:
            report(run, "handed over")
            close()

        body.close = closed
        return body


def _is_file(body: Any, wrapper: Any) -> bool:
    """Whether the server recognizes a body as a file that it sends by itself."""
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    return wrapper is not None and isinstance(body, IOBase)  # uWSGI's is a function


class _Body:
    def __init__(self, body: Any, run: str) -> None:
        self._body = body
        self._run = run

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        report(self._run, "handed over")
        self._body.close()


class ASGIProbe:
    """Report when the server has taken the last part of a response."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        run = dict(parse_qsl(scope.get("query_string", b"").decode())).get("run", "")

        async def probed(message: Any) -> None:
            await send(message)
            kind = message["type"]
            if kind == "http.response.pathsend" or (
                kind == "http.response.body" and not message.get("more_body", False)
            ):
                report(run, "handed over")

        try:
            await self._app(scope, receive, probed)
        finally:
            if scope["type"] == "http":
                report(run, "call ended")
