"""A response whose end comes after its tasks have run: the setting ``hold_response``."""

from __future__ import annotations

from bgadapters.asgi.files import send_file
from bgadapters.asgi.response import Response, begun
from bgadapters.asgi_types import Message, Send


class Held:
    """Holds the end of a response back, for the time when its tasks have run.

    A response that tells its length is taken to be whole with its last byte, or with its head if
    it has no body. So that is what is held back of it.
    """

    def __init__(self, send: Send, response: Response, method: str) -> None:
        self._send = send
        self._response = response
        self._method = method
        self._kept: list[Message] = []
        self._tells_length = False
        self._is_bodyless = False

    async def __call__(self, message: Message) -> None:
        """Send a message, or keep it."""
        kind = message["type"]
        if kind == "http.response.pathsend":
            await send_file(message["path"], self)
        elif kind == "http.response.start":
            await self._start(message)
        elif kind != "http.response.body":
            await self._pass_on(message)
        else:
            await self._body(message)

    async def _start(self, message: Message) -> None:
        message = await begun(message, self._response)
        self._kept = []  # of a response that was refused
        length = dict(message.get("headers", ())).get(b"content-length")
        self._tells_length = length is not None
        self._is_bodyless = (
            self._method == "HEAD" or length == b"0" or message["status"] in (204, 304)
        )
        await (self._keep if self._is_bodyless else self._pass_on)(message)

    async def _body(self, message: Message) -> None:
        is_last = not message.get("more_body", False)
        if is_last or self._tells_length or self._is_bodyless:
            await self._keep(message)
        else:
            await self._pass_on(message)
        if is_last:
            if self._response.queue.batch.unconfirmed is not None:
                await self._response.confirm()
            self._response.held = self._pass_kept

    async def _keep(self, message: Message) -> None:
        if self._kept and not self._is_bodyless:
            if not message.get("body"):  # it only says whether the one before was the last
                self._kept[-1] = {**self._kept[-1], "more_body": message.get("more_body", False)}
                return
            await self._pass_kept()
        self._kept.append(message)

    async def _pass_kept(self) -> None:
        messages, self._kept = self._kept, []
        await self._pass_on(*messages)

    async def _pass_on(self, *messages: Message) -> None:
        try:
            for message in messages:
                self._response.has_begun = True
                await self._send(message)
        except OSError:
            self._response.client_left = True
            raise
