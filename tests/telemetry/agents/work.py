"""The tasks that the agents watch: each kind has functions of its own, to tell them apart."""

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


def own_work(who: str) -> None:
    work(who)


async def own_awork(who: str) -> None:
    await awork(who)


def own_boom(who: str) -> None:
    boom(who)


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task for task in (work, awork, boom, own_work, own_awork, own_boom)
}
