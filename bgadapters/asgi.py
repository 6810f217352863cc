"""When an ASGI response is complete, and a middleware for any ASGI application.

ASGI has no close hook: a response is over when the application's call returns.
The tasks then run in asyncio tasks of their own, which the call awaits, so that
servers count it as unfinished and test clients see its effects; but shielded,
since some servers cancel the call of a client that left.
"""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Unpack

from bgadapters.adapters import (
    BackgroundTasks,
    BackgroundTasksError,
    Runtime,
    SettingNames,
    adrain_all,
    answer_check,
    closes_with_the_call,
    default_runtime,
    enter,
    leave,
    parse_settings,
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""The frameworks type these three in ways that exclude each other."""

RESPONSE_KEY = "bgadapters.response"
"""Where the ASGI scope holds the `Response` being made."""


class NoResponseSent(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """The application returned without a response, as it does when the client has left."""


class _ResponseQueue(BackgroundTasks):
    """A queue that its `Response` releases, and not the framework's response it may be given to."""

    __slots__ = ()

    async def __call__(self) -> None:
        """Do nothing: as the ``background`` of a response it would run before the response ends."""


class Response:
    """One response with its queue: when it is held back, and what its end means for the tasks.

    The policy for every ASGI framework; those who use it only tell it what they see.
    """

    __slots__ = ("_failed", "_handled_before", "client_left", "is_watched", "produced", "queue")

    def __init__(self, runtime: Runtime, path: str | None = None) -> None:
        self.queue = _ResponseQueue(runtime=runtime, path=path)
        self.produced = False
        self.client_left = False
        self.is_watched = False  # whether a middleware sees what the server says to each send
        self._failed = False
        self._handled_before = sys.exception()  # by the server or a test: not ours

    def start(self) -> None:
        """A response begins. Sent while an exception is handled, it is that exception's.

        So frameworks answer (Starlette, Litestar) whose own layers turn an exception of
        the view into a response before any middleware could see it.
        """
        self.produced = True
        exception = sys.exception()
        if exception is not None and exception is not self._handled_before and not self._failed:
            self.fail(exception)

    def fail(self, exception: BaseException) -> None:
        """An exception escaped the view. Tasks added from now on belong to its handler."""
        self._failed = True
        self.queue.discard(exception)

    async def hold(self) -> None:
        """Keep a response back until its tasks have a place in a backlog that was full."""
        if self.queue.needs_capacity:
            await self.queue.await_capacity()

    async def end(self, exception: BaseException | None) -> None:
        """The call that made this response has returned or raised."""
        if exception is None:
            if closes_with_the_call():
                self.queue.release()
            else:
                await self.queue.arelease()
        elif self.produced and (self.client_left or isinstance(exception, CancelledError)):
            self.queue.release()  # no awaiting: whoever cancels the call expects it to end
        else:
            self.queue.close(exception)


def open_response(scope: Scope) -> Response | None:
    """Return the response being made for this scope, None if there is none or it has ended."""
    response: Response | None = scope.get(RESPONSE_KEY)
    return response if response is not None and response.queue.is_open else None


def check_header(scope: Scope) -> str | None:
    """Return the header of a request by which a checker asks for its probe."""
    for name, value in scope.get("headers", ()):
        if name == b"bgadapters-check":
            return str(value, "latin-1")
    return None


class BackgroundTasksMiddleware:
    """Give every request of an ASGI application a queue, released when its call returns.

    Below it, ``bgadapters.add_task`` works anywhere. An exception that escapes the
    application discards the tasks. At ``lifespan.shutdown`` what still runs is waited
    for, before the application takes down its resources; for an application that
    does not speak the lifespan protocol (Django's) the middleware answers it.

    Args:
        app: the ASGI application.
        runtime: the settings and workers to use. Default: its own, made of ``settings``.
        settings: see ``Settings``.

    Raises:
        SettingsError: an unknown or impossible setting.
    """

    def __init__(
        self, app: ASGIApp, *, runtime: Runtime | None = None, **settings: Unpack[SettingNames]
    ) -> None:
        self.app = app
        self.runtime = runtime or Runtime(parse_settings(settings))
        self.runtime.handle_sigterm()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await _Lifespan(self.runtime, receive, send).serve(self.app, scope)
        elif open_response(scope) is not None:  # one response, one queue: the outermost releases
            await self.app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = scope[RESPONSE_KEY] = Response(self.runtime, scope.get("path"))
        if self.runtime.check_token is not None:
            answer_check(response.queue, check_header(scope), "asgi", self.app)
        previous = enter(response.queue)
        if scope["type"] == "http":
            response.is_watched = True
            send = _watched(send, response)
        else:
            response.produced = True  # a WebSocket has no response to wait for
        failure: BaseException | None = None
        try:
            await self.app(scope, receive, send)
            if not response.produced:
                failure = NoResponseSent()
        except BaseException as exc:
            failure = exc
            raise
        finally:
            leave(response.queue, previous)
            await response.end(failure)


def _watched(send: Send, response: Response) -> Send:
    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.start()
        elif not message.get("more_body", False):
            await response.hold()
        try:
            await send(message)
        except OSError:  # how servers of ASGI 2.4 and later say that the client has left
            response.client_left = True
            raise

    return watched


class _Lifespan:
    """Pass the lifespan protocol through; let tasks finish before the application shuts down."""

    def __init__(self, runtime: Runtime, receive: Receive, send: Send) -> None:
        self._runtime = runtime
        self._receive = receive
        self._send = send
        self._received = False
        self._answered = False

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._receive_draining, self._send_noting)
        except Exception:
            # The ASGI specification: an application that raises here has no use for the
            # protocol. One that failed after it was asked to start has failed indeed.
            if self._received or self._answered:
                raise
        if not self._answered:
            await self._answer()

    async def _receive_draining(self) -> Message:
        message = await self._receive()
        self._received = True
        self._runtime.hears_shutdown = True
        if message["type"] == "lifespan.shutdown":
            # That of queues made by hand, the default one, has no shutdown of its own.
            await adrain_all({self._runtime, default_runtime()})
        return message

    async def _send_noting(self, message: Message) -> None:
        self._answered = True
        await self._send(message)

    async def _answer(self) -> None:
        if not self._received:
            await self._receive()
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive_draining()
        await self._send({"type": "lifespan.shutdown.complete"})
