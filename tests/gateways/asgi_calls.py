"""Call an ASGI application as a server does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

Message = Any
App = Callable[[Any, Any, Any], Awaitable[None]]


def http_scope(
    path: str = "/",
    method: str = "GET",
    headers: dict[str, str] | None = None,
    spec_version: str = "2.4",
) -> dict[str, Any]:
    """Return the scope of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": ("127.0.0.1", 1024),
        "server": ("testserver", 80),
    }


@dataclass
class Client:
    """The other end of one connection: what it has received, and when it leaves.

    Attributes:
        on_send: called with each message that the application sends; may raise.
        left: set when the client leaves, or has nothing more to wait for; ``receive`` says so.
    """

    on_send: Callable[[Message], object] = lambda message: None
    left: asyncio.Event = field(default_factory=asyncio.Event)
    messages: list[Message] = field(default_factory=list)
    _requested: bool = False

    async def receive(self) -> Message:
        if not self._requested:
            self._requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.on_send(message)
        self.messages.append(message)
        if is_last(message):
            self.left.set()

    @property
    def status(self) -> int:
        """The status received."""
        return next(int(m["status"]) for m in self.messages if m["type"] == "http.response.start")

    @property
    def body(self) -> bytes:
        """The body received so far."""
        return b"".join(m.get("body", b"") for m in self.messages)

    async def request(self, app: App, scope: dict[str, Any] | None = None) -> Self:
        """Have the application serve one request; returns when its call does."""
        await app(http_scope() if scope is None else scope, self.receive, self.send)
        return self


def is_last(message: Message) -> bool:
    """Tell whether nothing of the response comes after this message."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def noting(log: list[Any], what: str = "sent") -> Client:
    """Return a client that appends ``what`` to ``log`` when the last byte was sent."""
    return Client(on_send=lambda message: log.append(what) if is_last(message) else None)


def serve(app: App, scope: dict[str, Any] | None = None) -> Client:
    """Serve one request on an event loop of its own."""
    return asyncio.run(Client().request(app, scope))


def websocket(app: App, *texts: str, leaves: bool = False, path: str = "/") -> list[Message]:
    """Connect to a WebSocket, send ``texts`` and perhaps leave; returns what was received."""
    waiting: list[Message] = [{"type": "websocket.connect"}]
    waiting += [{"type": "websocket.receive", "text": text} for text in texts]
    if leaves:
        waiting.append({"type": "websocket.disconnect", "code": 1001})
    received: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        received.append(message)

    async def main() -> None:
        scope = http_scope(path) | {"type": "websocket", "scheme": "ws", "subprotocols": []}
        del scope["method"]
        await app(scope, receive, send)

    asyncio.run(main())
    return received


async def others_wait() -> None:
    """Let the event loop run until, for all it takes in steps, everything waits for something."""
    for _ in range(100):
        await asyncio.sleep(0)


class Lifespan:
    """The server's side of the lifespan protocol; use it with ``async with``."""

    def __init__(self, app: App) -> None:
        self.sent: list[str] = []
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self.call = asyncio.ensure_future(app(scope, self._to_app.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message["type"])
        await self._from_app.put(message)

    async def startup(self) -> str:
        """Ask the application to start; returns what it answers."""
        return await self._ask("startup")

    async def shutdown(self) -> str:
        """Ask the application to shut down and wait until its call is over."""
        answer = await self._ask("shutdown")
        await self.call
        return answer

    async def _ask(self, what: str) -> str:
        await self._to_app.put({"type": f"lifespan.{what}"})
        answer = asyncio.ensure_future(self._from_app.get())
        await asyncio.wait({answer, self.call}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            await self.call
            return "returned without an answer"
        return str(answer.result()["type"])
