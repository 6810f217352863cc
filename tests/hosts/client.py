"""A small HTTP client on a bare socket: it shows when a response is complete, and why."""

from __future__ import annotations

import select
import socket
import struct
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

_RESET = struct.pack("ii", 1, 0)  # close() then sends RST instead of FIN


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    delimited_by: str  # "length", "chunks", "close" or "nothing"


class Broken(Exception):
    """The server broke the response off."""


class Client:
    """One connection to a server; reconnects when the server has closed it.

    Args:
        port: where the server listens.
        timeout: the seconds to wait for each part of a response.
        reuses: whether a connection is used for more than one request. Some servers
            close it without having said so.
        window: the bytes that the server can send ahead, so that a large body has to wait.
    """

    def __init__(
        self, port: int, timeout: float = 20.0, reuses: bool = True, window: int | None = None
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._timeout = timeout
        self._reuses = reuses
        self._window = window
        self._keeps_alive = True
        self._socket: socket.socket | None = None
        self._file: BinaryIO | None = None
        self.connections = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_answered(self) -> bool:
        """Whether something of a response has come that was not read yet."""
        return bool(self._socket and select.select([self._socket], [], [], 0)[0])

    def leave(self, how: str) -> None:
        """Close the connection with a FIN or an RST, whatever is under way."""
        assert self._socket is not None
        if how == "RST":
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def read_some(self) -> None:
        """Read the beginning of a response."""
        assert self._socket is not None
        if not self._socket.recv(100):
            raise Broken("no response")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._socket is not None:  # without a file if the server refused it
            self._socket.close()
        self._socket = self._file = None

    def send(self, method: str, target: str, version: str = "1.1", headers: str = "") -> None:
        """Send a request."""
        if self._socket is None:
            self._socket = socket.socket()
            if self._window is not None:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
            self._socket.settimeout(self._timeout)
            self._socket.connect(self._address)
            self._file = self._socket.makefile("rb")
            self.connections += 1
        self._keeps_alive = self._reuses and version == "1.1"
        head = f"{method} {target} HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n"
        self._socket.sendall(head.encode())

    def request(
        self, method: str, target: str, version: str = "1.1", headers: str = ""
    ) -> Response:
        """Send a request and read its whole response."""
        self.send(method, target, version, headers)
        return self.read(method)

    def read(self, method: str = "GET") -> Response:
        """Read a whole response, as far as the rules of RFC 9112, section 6.3, say it goes."""
        assert self._file is not None
        status_line = self._file.readline()
        if not status_line:
            raise Broken("no response")
        status = int(status_line.split()[1])
        headers = self._headers()
        body, delimited_by = self._body(method, status, headers)
        if not status_line.startswith(b"HTTP/1.1") or delimited_by == "close":
            self._keeps_alive = False
        if not self._keeps_alive or headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body, delimited_by)

    def _headers(self) -> dict[str, str]:
        assert self._file is not None
        headers = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def _body(self, method: str, status: int, headers: dict[str, str]) -> tuple[bytes, str]:
        assert self._file is not None
        if method == "HEAD" or status in {204, 304}:
            return b"", "nothing"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks(), "chunks"
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = self._file.read(length)
            if len(body) < length:
                raise Broken(f"{len(body)} of {length} bytes")
            return body, "length"
        return self._file.read(), "close"

    def _chunks(self) -> bytes:
        assert self._file is not None
        body = b""
        while True:
            line = self._file.readline()
            if not line:
                raise Broken(f"after {body!r}")
            size = int(line.split(b";")[0], 16)
            body += self._file.read(size)
            self._file.readline()
            if size == 0:
                return body
