"""One keep-alive connection of a client that knows when a response is complete."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from contextlib import suppress

import h11

from examples.demo.plan import Request
from examples.demo.record import DemoError, Exchange

_SO_TIMESTAMPNS = 35  # Linux: have recvmsg() tell when what it returns had arrived; see socket(7)


class Connection:
    """Sends one request after the other. Use it within a running event loop.

    Args:
        port: where the server listens, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._http = h11.Connection(h11.CLIENT)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.setblocking(False)
        if sys.platform == "linux":
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._exchange: Exchange | None = None
        self._changed = asyncio.Event()
        self._failure = ""
        asyncio.get_running_loop().add_reader(self._socket, self.look)

    def send(self, method: str, request: Request) -> Exchange:
        """Send a request; what becomes of it is written into the exchange returned."""
        if self._exchange is not None:
            self._start_next()
        head = h11.Request(
            method=method,
            target=request.target,
            headers=[("Host", f"127.0.0.1:{self._port}"), ("Content-Length", "0")],
        )
        data = (self._http.send(head) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        exchange = self._exchange = Exchange(request)
        self._socket.sendall(data)
        return exchange

    async def complete(self, exchange: Exchange) -> None:
        """Wait until a response is complete."""
        while exchange.complete is None:
            if self._failure:
                raise DemoError(self._failure)
            self._changed.clear()
            await self._changed.wait()

    def look(self) -> None:
        """Take in what has arrived by now, without waiting for more."""
        while not self._failure:
            try:
                data, stamps, _, _ = self._socket.recvmsg(65536, 64)
                self._http.receive_data(data)
                self._read_events(_time_of(stamps))
            except BlockingIOError:
                return
            except (OSError, h11.RemoteProtocolError) as exc:
                self._fail(f"the connection broke: {exc}")

    def close(self) -> None:
        """Close the connection. A second time does nothing."""
        if self._socket.fileno() != -1:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._failure = "the connection was closed"

    def _read_events(self, arrived: float | None) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.ConnectionClosed):
                self._fail("the server closed the connection")
                return
            if self._exchange is not None and isinstance(event, h11.Response):
                self._exchange.status = event.status_code
            if self._exchange is not None and isinstance(event, h11.EndOfMessage):
                self._exchange.complete = time.monotonic()
                self._exchange.arrived = arrived
                self._changed.set()

    def _start_next(self) -> None:
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError as exc:
            raise DemoError("the server did not keep the connection alive") from exc

    def _fail(self, why: str) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._failure = why
        self._changed.set()


def _time_of(stamps: list[tuple[int, int, bytes]]) -> float | None:
    for level, kind, data in stamps:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = struct.unpack("@ll", data)
            return float(seconds + nanoseconds / 1e9)
    return None
