"""A middleware for any ASGI application."""

from __future__ import annotations

import logging
import sys
from typing import Unpack

from bgadapters.adapters import (
    BackgroundTasks,
    Runtime,
    SettingNames,
    answer_check,
    log,
    parse_settings,
)
from bgadapters.asgi.held import Held
from bgadapters.asgi.response import (
    RESPONSE_KEY,
    NoResponseSent,
    Response,
    check_header,
    open_response,
)
from bgadapters.asgi_frameworks import listen, refuse
from bgadapters.asgi_lifespan import Lifespan
from bgadapters.asgi_types import ASGIApp, Message, Receive, Scope, Send


class BackgroundTasksMiddleware:
    """Give every request of an ASGI application a queue, released when its call returns.

    Below it, ``bgadapters.add_task`` works anywhere. An exception that escapes the
    application discards the tasks. At ``lifespan.shutdown`` what still runs is waited
    for, before the application takes down its resources; for an application that
    says that it does not speak the lifespan protocol (Django's) the middleware answers it.

    A second one, as the innermost of an application's middlewares, sees what those
    between the two hide: exceptions of views, and attempts that failed.

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
        # Of two between which nothing stands one is enough.
        self.app: ASGIApp = app.app if isinstance(app, BackgroundTasksMiddleware) else app
        self.runtime = runtime or Runtime(parse_settings(settings))
        self.runtime.handle_sigterm()
        listen(app, _fail)

    @staticmethod
    def on_open(scope: Scope, queue: BackgroundTasks) -> None:
        """The queue of a request was opened. For middlewares that are made of this one."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901
        """Serve one connection: here, since a call of another method would cost each request."""
        kind = scope["type"]
        # That of a view which calls an application with its own scope, or one that has ended.
        outer: Response | None = scope.get(RESPONSE_KEY)
        if kind == "lifespan" or (
            outer is not None and outer.opener is not self and outer.queue.is_open
        ):
            await self._serve_without_queue(outer, scope, receive, send)
            return
        runtime, is_socket = self.runtime, kind != "http"
        # No argument is left to its default: then Python makes the object without a call from C.
        response = Response(runtime, scope.get("path"), is_socket, scope.get("method"), self, False)
        scope[RESPONSE_KEY] = response
        if runtime.check_token is not None:
            answer_check(response.queue, check_header(scope), "asgi", self.app)
        self.on_open(scope, response.queue)
        if is_socket:
            receive = _paced(receive, response)
        else:
            response.is_watched = True
            response.server_receive, response.server_send = receive, send
            receive = response.receive
            send = Held(send, response, scope["method"]) if response.holds else response.send
        failure: BaseException | None = None
        try:
            try:
                await self.app(scope, receive, send)
            except Exception:
                if not response.is_refused:
                    raise
                await self._answer_refusal(response, scope, receive, send)
            if not response.produced and not is_socket:
                failure = NoResponseSent()
        except BaseException as exc:
            failure = exc
            raise
        finally:
            if outer is not None:
                scope[RESPONSE_KEY] = outer
            if failure is not None or not response.end_unused():
                waiting = response.end(failure, scope)
                if waiting is not None:
                    await waiting

    async def _serve_without_queue(
        self, outer: Response | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if outer is None:
            await Lifespan(self.runtime, receive, send).serve(self.app, scope)
        elif scope["type"] == "http":  # one response, one queue: the outermost releases
            await self._observe(outer, scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _answer_refusal(
        self, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """The application has left to others to say that its tasks cannot be kept."""
        refusal = response.refusal
        assert refusal is not None  # noqa: S101  the caller has seen to that
        log(logging.ERROR, "The response to %s is refused", scope["path"], exc_info=refusal)
        await refuse(refusal, scope, receive, send)

    async def _observe(
        self, response: Response, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Tell a response that another one has opened what is raised in this part of it.

        Between the two there may be middlewares that hide it: that run the views in a task of
        their own, call the application once more, or call it while they handle an exception.
        """
        queue, handled_before, begun = response.queue, sys.exception(), False
        since = queue.position if queue.is_used else 0
        response.is_observed = True

        async def observed(message: Message) -> None:
            nonlocal begun
            if not begun:
                begun = True
                exception = sys.exception()
                if exception is not None and exception is not handled_before:
                    response.fail(exception)
                elif queue.is_used:
                    queue.batch.forget_failure()
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except Exception as exc:
            if not begun:
                response.fail(exc, since)
            raise


def _fail(scope: Scope, exception: BaseException) -> None:
    response = open_response(scope)
    if response is not None:
        response.fail(exception)


def _paced(receive: Receive, response: Response) -> Receive:
    """Let a WebSocket take its next message when there is capacity for what it may add."""

    async def paced() -> Message:
        await response.queue.runtime.admission.await_capacity_for_one()
        return await receive()

    return paced
