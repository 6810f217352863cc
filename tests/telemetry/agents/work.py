"""The tasks that the agents watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.telemetry.lines import put


def work(who: str) -> None:
    put("ran", who=who)


async def awork(who: str) -> None:
    put("ran", who=who)


def boom(who: str) -> None:
    put("ran", who=who)
    raise ValueError(who)


TASKS: dict[str, Callable[..., Any]] = {"work": work, "awork": awork, "boom": boom}
