"""Forwards what is sent to one port to another: ``forward.py PORT TO``."""

from __future__ import annotations

import asyncio
import sys


async def forward(port: int, to: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        print("listens", flush=True)
        await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def main() -> None:
    asyncio.run(forward(int(sys.argv[1]), int(sys.argv[2])))
