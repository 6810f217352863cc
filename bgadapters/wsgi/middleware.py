"""A middleware for any WSGI application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Unpack

from bgadapters.adapters import (
    BackgroundTasksError,
    FrameworkHooks,
    Installation,
    Runtime,
    SettingNames,
    enter_call,
    leave_call,
    log,
    mode,
    parse_settings,
    release_response,
)
from bgadapters.wsgi.body import Body, on_close
from bgadapters.wsgi.held import Head, HeldBody, in_chunks
from bgadapters.wsgi.queues import QUEUE_KEY, RequestQueue, note_end, open_queue
from bgadapters.wsgi.start import Start

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

INSTALLATION = Installation(
    missing=lambda: None,
    advice=lambda: "Make the application in the main thread: no other may handle SIGTERM.",
)
"""Of an application that handles SIGTERM where it is made."""

Refuse = Callable[[BackgroundTasksError, "WSGIEnvironment", "StartResponse"], Iterable[bytes]]
"""Answers a request; see `refuse`."""


def refuse(
    exception: BackgroundTasksError, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer a request of which the tasks cannot be kept: 503.

    Args:
        exception: why.
        environ: that of the request.
        start_response: takes the place of what the application has begun, of which nothing was
            sent.
    """
    del exception, environ
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "10")]
    start_response("503 Service Unavailable", headers)
    return [b"Service Unavailable"]


class BackgroundTasksMiddleware:
    """Give every request of a WSGI application a queue, released when its response is closed.

    Below it, ``bgadapters.add_task`` works anywhere. An exception that escapes the
    application or its body discards the tasks.

    Args:
        app: the WSGI application.
        runtime: the settings and workers to use. Default: its own, made of ``settings``.
        refuse: answers a request of which the tasks cannot be kept. Default: with 503.
        settings: see ``Settings``.

    Raises:
        SettingsError: an unknown or impossible setting.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        runtime: Runtime | None = None,
        refuse: Refuse = refuse,
        **settings: Unpack[SettingNames],
    ) -> None:
        self.app = app
        self._refuse = refuse
        hooks = FrameworkHooks(installation=INSTALLATION)
        self.runtime = runtime or Runtime(parse_settings(settings), hooks)
        self.runtime.handle_sigterm()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        outer: RequestQueue | None = environ.get(QUEUE_KEY)
        if outer is not None:
            if outer.is_shared_with(self, environ):  # one response, one queue: the outermost's
                return self.app(environ, start_response)
            if outer.is_open:  # another request, made in the middle of that one
                environ = dict(environ)
        open_queue(self.runtime, environ, self)
        return mode.active.serve_wsgi(self._serve, environ, start_response)

    def _refused(
        self,
        environ: WSGIEnvironment,
        exception: BackgroundTasksError,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """Answer in the place of a response of which nothing was sent."""
        queue: RequestQueue = environ[QUEUE_KEY]
        path = environ.get("PATH_INFO")
        log(logging.ERROR, "The response to %s is refused", path, exc_info=exception)
        queue.discard(exception)
        return self._refuse(exception, environ, start_response)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        queue: RequestQueue = environ[QUEUE_KEY]
        start_response = partial(queue.note_status, start_response)
        if not self.runtime.serves_plainly:
            return self._serve_with_all(queue, environ, start_response)
        token = enter_call(queue)
        try:
            body = self.app(environ, start_response)
        except BaseException as exc:
            leave_call(token)
            _fail(queue, environ, exc)
            raise
        leave_call(token)
        return on_close(environ, body, queue)

    def _serve_with_all(
        self, queue: RequestQueue, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Serve what is held back, or has tasks that are to be kept before its response begins."""
        head = None
        if self.runtime.settings.hold_response:
            head = Head()
            start_response = partial(head.note, start_response)
        start: Start | None = None
        if self.runtime.confirms_tasks:
            start = start_response = Start(start_response, queue, partial(self._refused, environ))
        token = enter_call(queue)
        try:
            if start is None:
                body = self.app(environ, start_response)
            else:
                body = start.call(self.app, environ)
        except BaseException as exc:
            leave_call(token)
            _fail(queue, environ, exc)
            if head is not None:
                release_response(queue)  # it waits
            raise
        leave_call(token)
        if head is not None:
            made = Body(in_chunks(body), queue, environ, start)
            return HeldBody(made.begun(), head)
        return on_close(environ, body, queue, start)


def _fail(queue: RequestQueue, environ: WSGIEnvironment, exception: BaseException) -> None:
    """The application has raised an exception, instead of returning a body."""
    if isinstance(exception, StopIteration) and "HTTP_UPGRADE" in environ:
        queue.release()  # a handler took the connection over, and has ended: gunicorn's way
    else:
        note_end(queue)
        queue.close(exception)
