"""The time limit of an async task, on its loop. Apart from the rest, since it imports asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from bgadapters.core import host

_CLEAN_UP = 1.0  # seconds that a cancelled attempt has to end, at most


class OnLoop(AbstractAsyncContextManager[None]):
    """Around an attempt of an async task: cancels it when its time is over.

    As `asyncio.timeout`, which does not tell of a task that goes on all the same.

    Args:
        seconds: what the attempt may take, for the message.
        left: returns the seconds until its deadline.
        tell: called with where the attempt is, as text, when it is overdue; with None when it ends
            just then. It tells of that once.
    """

    def __init__(
        self, seconds: float, left: Callable[[], float], tell: Callable[[str | None], None]
    ) -> None:
        self._seconds = seconds
        self._left = left
        self._tell = tell
        self._has_expired = False

    async def __aenter__(self) -> None:
        """Begin."""
        runner = asyncio.current_task()
        assert runner is not None, "each async task has an asyncio task"  # noqa: S101
        self._runner: asyncio.Task[Any] = runner
        self._cancelling = runner.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, self._left()), self._expire)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        """End: what the cancellation has raised becomes a TimeoutError."""
        self._timer.cancel()
        if self._has_expired:
            is_ours = self._runner.uncancel() <= self._cancelling
            if is_ours and kind is not None and issubclass(kind, asyncio.CancelledError):
                message = f"it has taken longer than its timeout of {self._seconds:g} s"
                raise TimeoutError(message) from raised
        if kind is None and self._left() <= 0:  # it was cancelled, or has blocked its loop
            self._tell(None)

    def _expire(self) -> None:
        self._has_expired = True
        self._runner.cancel()
        seconds = min(self._seconds, _CLEAN_UP)
        self._timer = self._loop.call_later(seconds, self._tell_where_it_is)

    def _tell_where_it_is(self) -> None:
        self._tell(host.shown_coroutine(self._runner.get_coro()))
