"""A client that puts load on a server of this machine.

The clients that package indexes and distributions offer measure from the moment a request is
sent, so that a server that stalls holds back the requests that would have seen it stall. Here an
open loop's requests are due at fixed moments, whatever became of the ones before, and their
latency counts from the moment they were due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

_SPIN = 0.002  # seconds before a request is due in which the loop does not sleep any more
_PATIENCE = 30.0  # seconds until a request counts as failed


@dataclass
class Load:
    """What one load has found.

    Attributes:
        latencies: seconds, of the responses with status 200.
        errors: the requests without one.
        seconds: from the first request to the last response.
    """

    latencies: list[float] = field(default_factory=list)
    errors: int = 0
    seconds: float = 0.0


class Response(asyncio.Protocol):
    """A connection with at most one request under way."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.is_reusable = False
        self._waiter: asyncio.Future[int] | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by their class
        self.is_reusable = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or self._waiter is None or self._waiter.done():
            return
        lines = head.lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        if len(body) >= int(fields.get(b"content-length", b"0")):
            self.is_reusable = self.is_reusable and fields.get(b"connection") != b"close"
            self.body = body
            self._waiter.set_result(int(lines[0].split()[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionResetError())

    async def request(self, path: str) -> int:
        """Send a request; return the status, the body being in ``body``."""
        assert self.transport is not None
        self._received = b""
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(_PATIENCE):
            return await self._waiter


class Client:
    """Connections to one server, kept for as long as it keeps them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Response] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Make a request on an idle connection, or a new one if there is none."""
        connection = self._reusable() or await self._connect()
        try:
            status = await connection.request(path)
        except BaseException:
            self._drop(connection)
            raise
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            self._drop(connection)
        return status, connection.body

    def close(self) -> None:
        """Close every idle connection."""
        for connection in self._idle:
            self._drop(connection)
        self._idle.clear()

    async def closed(self, path: str, connections: int, until: Callable[[int], bool]) -> Load:
        """Have so many requests under way at every moment.

        Args:
            path: what to get.
            connections: how many.
            until: tells, given the number of requests sent, whether it was enough.
        """
        load = Load()
        sent = 0

        async def one_after_the_other() -> None:
            nonlocal sent
            while not until(sent):
                sent += 1
                await self._timed(path, time.perf_counter(), load)

        return await self._all([one_after_the_other() for _ in range(connections)], load)

    async def open(self, path: str, rate: float, requests: int) -> Load:
        """Send requests at a constant rate, answered or not.

        Args:
            path: what to get.
            rate: requests a second.
            requests: how many in all.
        """
        load = Load()

        async def at_constant_rate() -> None:
            first = time.perf_counter() + _SPIN
            async with asyncio.TaskGroup() as group:
                for number in range(requests):
                    due = first + number / rate
                    await _sleep_until(due)
                    group.create_task(self._timed(path, due, load))

        return await self._all([at_constant_rate()], load)

    async def _all(self, loads: list[Awaitable[None]], load: Load) -> Load:
        started = time.perf_counter()
        await asyncio.gather(*loads)
        load.seconds = time.perf_counter() - started
        self.close()
        return load

    async def _timed(self, path: str, since: float, load: Load) -> None:
        try:
            status, _ = await self.get(path)
        except (OSError, TimeoutError):
            status = 0
        if status == 200:
            load.latencies.append(time.perf_counter() - since)
        else:
            load.errors += 1

    def _reusable(self) -> Response | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
        return None

    async def _connect(self) -> Response:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Response, "127.0.0.1", self._port)
        return connection

    def _drop(self, connection: Response) -> None:
        if connection.transport is not None:
            connection.transport.close()


async def _sleep_until(due: float) -> None:
    """Sleep; loops wake to the millisecond at best, so the last part is spent awake."""
    pause = due - time.perf_counter() - _SPIN
    if pause > 0:
        await asyncio.sleep(pause)
    while time.perf_counter() < due:
        await asyncio.sleep(0)
