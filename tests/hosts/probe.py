"""Report what the server is given, from outside of everything that is tested."""

from __future__ import annotations

from collections.abc import Iterator
from io import IOBase
from typing import Any
from urllib.parse import parse_qsl

from tests.hosts.events import report


class WSGIProbe:
    """Report when the server closes a response, before anything below hears of it.

    With the report go the protocol and the port of the client, whoever that is to the server.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        run = dict(parse_qsl(environ.get("QUERY_STRING", ""))).get("run", "")
        body = self._app(environ, start_response)
        if not _is_file(body, environ.get("wsgi.file_wrapper")):
            return _Body(body, run, f"{environ['SERVER_PROTOCOL']} {environ.get('REMOTE_PORT')}")
        report(run, "file wrapper")
        file = body if hasattr(body, "__dict__") else body.filelike  # mod_wsgi's takes nothing
        close = file.close

        def closed() -> None:
            report(run, "handed over")
            close()

        file.close = closed
        return body


def _is_file(body: Any, wrapper: Any) -> bool:
    """Whether the server recognizes a body as a file that it sends by itself."""
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    return wrapper is not None and isinstance(body, IOBase)  # uWSGI's is a function


class _Body:
    def __init__(self, body: Any, run: str, connection: str) -> None:
        self._body = body
        self._run = run
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        report(self._run, "handed over", self._connection)
        self._body.close()


class ASGIProbe:
    """Report when the server has taken the last part of a response, or says the client has left."""

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
                _, port = scope.get("client") or (None, None)
                report(run, "handed over", f"HTTP/{scope['http_version']} {port}")

        async def listening() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                report(run, "disconnect")
            return message

        try:
            await self._app(scope, listening, probed)
        finally:
            if scope["type"] == "http":
                report(run, "call ended")
