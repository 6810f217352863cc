"""The lifespan protocol of an ASGI application: tasks finish before it takes down its resources."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from bgadapters.adapters import (
    BackgroundTasksError,
    Runtime,
    check_store,
    default_runtime,
    loop_runs_here,
    start_serving,
    task_running_here,
)
from bgadapters.asgi_types import ASGIApp, Message, Receive, Scope, Send


async def _drain(runtime: Runtime) -> None:
    """Drain an application's runtime, and that of queues made by hand, which has no shutdown."""
    if task_running_here():  # which starts and ends an application: a drain would wait for it
        return
    started, elapsed = time.monotonic(), 0.0
    for each in {runtime, default_runtime()}:
        if each.outbox is None and not each.has_work():
            continue  # else its store may have to be told of what has just ended
        timeout = max(0.0, each.drain_timeout - elapsed)
        if loop_runs_here():
            await each.adrain(timeout)
        else:  # trio, where tasks run in threads if they run at all
            await _in_thread(each.drain, timeout)
        elapsed = time.monotonic() - started


async def _in_thread(function: Callable[..., object], *args: object) -> None:
    if loop_runs_here():
        await asyncio.to_thread(function, *args)
    else:
        await sys.modules["trio"].to_thread.run_sync(function, *args)


def _declines(exception: Exception) -> bool:
    """Whether an application says that it does not speak the lifespan protocol.

    It names the protocol; or it asserts by itself that it was called for HTTP, or has not
    implemented anything else. Whatever else is raised may be a failure.
    """
    traceback = exception.__traceback__
    own = traceback.tb_next if traceback is not None else None
    is_its_own = own is not None and own.tb_next is None
    is_refusal = isinstance(exception, AssertionError | NotImplementedError)
    return "lifespan" in str(exception) or (is_refusal and is_its_own)


class Lifespan:
    """Pass the lifespan protocol through; let tasks finish before the application shuts down.

    Args:
        runtime: the application's, whose tasks are waited for.
        receive: what the server gives.
        send: what the server gives.
    """

    def __init__(self, runtime: Runtime, receive: Receive, send: Send) -> None:
        self._runtime = runtime
        self._receive = receive
        self._send = send
        self._received = False
        self._answered = False

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        """Serve the connection that lasts as long as the application."""
        try:
            await app(scope, self._receive_draining, self._send_noting)
        except Exception as exc:
            # The ASGI specification: an application that raises here has no use for the
            # protocol. But one may also have failed, and the server is to hear of that.
            if self._received or self._answered or not _declines(exc):
                raise
        if not self._answered:
            await self._answer()

    async def _receive_draining(self) -> Message:
        message = await self._receive()
        self._received = True
        runtime = self._runtime
        runtime.hears_shutdown = True
        runtime.is_shut_down = message["type"] == "lifespan.shutdown"
        if message["type"] == "lifespan.startup" and runtime.settings.store is not None:
            await self._start_serving()
        if runtime.is_shut_down:
            await _drain(runtime)
        return message

    async def _start_serving(self) -> None:
        """Open the store of durable tasks, if there is one: a server without it is not to start."""
        try:
            await _in_thread(check_store, self._runtime)
        except BackgroundTasksError as exc:
            await self._send_noting({"type": "lifespan.startup.failed", "message": str(exc)})
            raise
        start_serving(self._runtime)

    async def _send_noting(self, message: Message) -> None:
        self._answered = True
        await self._send(message)

    async def _answer(self) -> None:
        if not self._received:
            await self._receive_draining()
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive_draining()
        await self._send({"type": "lifespan.shutdown.complete"})
