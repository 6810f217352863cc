"""Call a WSGI application as a server does, step by step."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from wsgiref.util import setup_testing_defaults

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import WSGIApplication


def environ(method: str = "GET", path: str = "/", file_wrapper: Any = None) -> dict[str, Any]:
    """Return the environ of a request, from a server with or without a ``wsgi.file_wrapper``."""
    made: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO()}
    setup_testing_defaults(made)
    return made if file_wrapper is None else made | {"wsgi.file_wrapper": file_wrapper}


@dataclass
class Exchange:
    """One request: what the application has answered so far."""

    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: Iterable[bytes] = ()
    received: bytes = b""

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None, /
    ) -> Any:
        self.status, self.headers = status, headers
        return self.write

    def write(self, data: bytes) -> None:
        self.received += data

    def read(self) -> bytes:
        """Iterate over the body, as a server does while it sends."""
        for chunk in self.body:
            self.received += chunk
        return self.received

    def close(self) -> None:
        """Close the body, if it can be."""
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


def begin(app: WSGIApplication, env: dict[str, Any] | None = None) -> Exchange:
    """Call the application; the body is neither read nor closed."""
    exchange = Exchange()
    exchange.body = app(environ() if env is None else env, exchange.start_response)
    return exchange


def serve(app: WSGIApplication, env: dict[str, Any] | None = None) -> Exchange:
    """Serve one request: call, read, and close whether or not the reading raises."""
    exchange = begin(app, env)
    try:
        exchange.read()
    finally:
        exchange.close()
    return exchange


class Server(Exchange):
    """What PEP 3333 says of a second call: it replaces the first one, or raises its exception."""

    has_sent = False
    was_told: Any = None

    def start_response(self, status: str, headers: Any, exc_info: Any = None, /) -> Any:
        if exc_info is not None and self.has_sent:
            raise exc_info[1]
        assert not self.status or exc_info is not None, "start_response was called twice"
        self.was_told = exc_info
        return super().start_response(status, headers, exc_info)

    def write(self, data: bytes) -> None:
        self.has_sent = True
        super().write(data)

    def serve(self, app: WSGIApplication, env: dict[str, Any] | None = None) -> Self:
        """Serve one request to its end."""
        try:
            self.body = app(environ() if env is None else env, self.start_response)
            for part in self.body:
                self.write(part)
        finally:
            self.close()
        return self
