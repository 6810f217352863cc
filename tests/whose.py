"""Tasks that fail, for tests of whose failure it is."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

who: ContextVar[str] = ContextVar("who", default="nobody")


def fail() -> None:
    raise ValueError("no")


async def afail() -> None:
    await asyncio.sleep(0)
    raise ValueError("no")
