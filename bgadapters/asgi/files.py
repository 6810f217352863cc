"""A file that is sent before its response ends."""

from __future__ import annotations

from asyncio import get_running_loop

from bgadapters.asgi_types import Send

_CHUNK = 1 << 18


async def send_file(path: str, send: Send) -> None:
    """Send a file in the place of the server, which would open it after the tasks have begun."""
    loop = get_running_loop()
    file = await loop.run_in_executor(None, open, path, "rb")
    try:
        while chunk := await loop.run_in_executor(None, file.read, _CHUNK):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        file.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
