"""What the examples' tasks reach while the demonstration runs: it itself, and a mail server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP

from examples.demo.record import Record


@asynccontextmanager
async def listener(record: Record, look: Callable[[], None]) -> AsyncIterator[int]:
    """Take what ``hook.tell`` tells down, having called ``look`` first; yields the port."""

    async def take_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, json.JSONDecodeError):  # its server was stopped meanwhile
            note = json.loads(await reader.readline())
            look()
            record.note(**note)
            writer.write(b"\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(take_down, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def mail_server(record: Record, deadline: float) -> AsyncIterator[int]:
    """Receive mail, in about a second for each message; yields the port.

    Args:
        record: where the mail is noted.
        deadline: seconds of which holding a message back may take a part only.
    """
    loop = asyncio.get_running_loop()
    mailbox = _Mailbox(record, deadline / 3)
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Mailbox:
    """Takes a second for a message; longer while the machine has other work of ours to do.

    So a slow machine cannot look like a response that waited for the mail. One that does
    wait is let go in the end, and found out.
    """

    def __init__(self, record: Record, longest: float) -> None:
        self._record = record
        self._longest = longest

    async def handle_DATA(self, _: SMTP, __: object, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        """Receive a message."""
        await asyncio.sleep(1)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._record.only_mail_is_left.wait(), self._longest)
        subject = message_from_bytes(envelope.content)["Subject"]
        self._record.mailbox += [f"{recipient}: {subject}" for recipient in envelope.rcpt_tos]
        return "250 OK"
