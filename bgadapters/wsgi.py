"""When a WSGI response is closed (PEP 3333), and a middleware for any WSGI application.

PEP 3333: "If the iterable returned by the application has a ``close()`` method,
the server or gateway **must** call that method upon completion of the current
request", whether it completed normally or not. Several servers complete the
response, or take the next request of the connection, only after ``close()`` has
returned: so it releases the queue to worker threads and does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import IOBase
from typing import TYPE_CHECKING, Any, Unpack

from bgadapters.adapters import (
    BackgroundTasks,
    Runtime,
    SettingNames,
    answer_check,
    enter,
    leave,
    mode,
    parse_settings,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

QUEUE_KEY = "bgadapters.queue"
"""Where the WSGI environ holds the request's queue."""


class BackgroundTasksMiddleware:
    """Give every request of a WSGI application a queue, released when its response is closed.

    Below it, ``bgadapters.add_task`` works anywhere. An exception that escapes the
    application or its body discards the tasks.

    Args:
        app: the WSGI application.
        runtime: the settings and workers to use. Default: its own, made of ``settings``.
        settings: see ``Settings``.

    Raises:
        SettingsError: an unknown or impossible setting.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        runtime: Runtime | None = None,
        **settings: Unpack[SettingNames],
    ) -> None:
        self.app = app
        self.runtime = runtime or Runtime(parse_settings(settings))
        self.runtime.handle_sigterm()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        outer = environ.get(QUEUE_KEY)
        if outer is not None and outer.is_open:  # one response, one queue: the outermost releases
            return self.app(environ, start_response)
        queue = environ[QUEUE_KEY] = BackgroundTasks(
            runtime=self.runtime, path=environ.get("PATH_INFO")
        )
        if self.runtime.check_token is not None:
            answer_check(queue, environ.get("HTTP_BGADAPTERS_CHECK"), "wsgi")
        return mode.active.serve_wsgi(self._serve, environ, start_response)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        queue: BackgroundTasks = environ[QUEUE_KEY]
        previous = enter(queue)
        try:
            body = self.app(environ, start_response)
        except BaseException as exc:
            leave(queue, previous)
            queue.close(exc)
            raise

        def closed() -> None:
            leave(queue, previous)
            mode.active.release_wsgi(queue.release)

        return on_close(environ, body, closed, queue.close)


def on_close(
    environ: WSGIEnvironment,
    body: Iterable[bytes],
    closed: Callable[[], None],
    failed: Callable[[BaseException], None],
) -> Iterable[bytes]:
    """Return a body that calls ``closed`` after it was closed, ``failed`` if iterating it raises.

    A ``wsgi.file_wrapper`` stays what it is, or the server would lose its
    ``sendfile``: only its ``close`` is extended, or that of its file where the
    wrapper takes no attributes, as mod_wsgi's.
    """
    if _is_file(body, environ.get("wsgi.file_wrapper")):
        file = getattr(body, "filelike", None)
        if _extend_close(body, closed) or _extend_close(file, closed):
            return body
    return (_SizedBody if hasattr(body, "__len__") else _Body)(body, closed, failed)


def _is_file(body: Iterable[bytes], wrapper: Any) -> bool:
    """Whether the server sends this body by itself, as the file that it is."""
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # uWSGI's wrapper is a function that returns the file itself, to recognize it afterwards.
    return wrapper is not None and isinstance(body, IOBase)


def _extend_close(body: Any, closed: Callable[[], None]) -> bool:
    def close() -> None:
        try:
            if original is not None:
                original()
        finally:
            closed()

    original = getattr(body, "close", None)
    try:
        body.close = close
    except AttributeError:  # a type without a place for it
        return False
    return True


class _Body:
    """A response body that tells when it was closed and whether it broke off."""

    def __init__(
        self,
        body: Iterable[bytes],
        closed: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._closed = closed
        self._failed = failed

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)
        except StopIteration:
            raise
        except BaseException as exc:
            self._failed(exc)
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._closed()


class _SizedBody(_Body):
    """The same for a body of known length, from which servers compute a Content-Length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen for bodies that have it
