"""When a WSGI response is closed (PEP 3333), and a middleware for any WSGI application.

PEP 3333: "If the iterable returned by the application has a ``close()`` method,
the server or gateway **must** call that method upon completion of the current
request", whether it completed normally or not. Several servers complete the
response, or take the next request of the connection, only after ``close()`` has
returned: so it releases the queue to worker threads and does nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from io import IOBase
from typing import TYPE_CHECKING, Any, Unpack

from bgadapters.core import current, rehearsal
from bgadapters.core.queue import BackgroundTasks
from bgadapters.core.runtime import Runtime, loop_runs_here
from bgadapters.core.settings import SettingNames, parse_settings

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
        if self.runtime.probe is not None:
            self.runtime.probe(queue, environ.get("HTTP_BGADAPTERS_CHECK"), "wsgi")
        if rehearsal.audience is not None:
            return _rehearse(self._serve, queue, environ, start_response)
        return self._serve(queue, environ, start_response)

    def _serve(
        self, queue: BackgroundTasks, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        previous = current.enter(queue)
        try:
            body = self.app(environ, start_response)
        except BaseException as exc:
            current.leave(queue, previous)
            queue.discard(exc)
            raise

        def closed() -> None:
            current.leave(queue, previous)
            if rehearsal.audience is not None and loop_runs_here():
                _release_beside(queue)
            else:
                queue.release()

        return on_close(environ, body, closed, queue.discard)


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


def _rehearse(
    serve: Callable[..., Iterable[bytes]],
    queue: BackgroundTasks,
    environ: WSGIEnvironment,
    start_response: StartResponse,
) -> Iterable[bytes]:
    """Serve a test, whose client may never close a response: close it as soon as it is known.

    A body of known length is read and closed at once, as by a client that buffers; a stream is
    closed when it was read to its end.
    """
    is_known = environ.get("REQUEST_METHOD") == "HEAD"

    def noting(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        nonlocal is_known
        is_known |= status.startswith(("1", "204", "304"))
        is_known |= any(name.lower() == "content-length" for name, _ in headers)
        return start_response(status, headers, *exc_info)

    body = serve(queue, environ, noting)
    if is_known or hasattr(body, "__len__"):
        with closing(body):  # type: ignore[type-var]  # it was given a close
            return list(body)
    return _SelfClosing(body)


def _release_beside(queue: BackgroundTasks) -> None:
    """Have the tasks run when a test's coroutine has called the application: its loop stands."""
    thread = threading.Thread(target=queue.release)
    thread.start()
    thread.join()


class _SelfClosing:
    """A body that is closed once: when it has been read, or before."""

    def __init__(self, body: Iterable[bytes]) -> None:
        self._body = body
        self._iterator = iter(body)
        self._is_closed = False

    def __iter__(self) -> _SelfClosing:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._iterator)
        except BaseException:  # its end, or it has broken off
            self.close()
            raise

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._body.close()  # type: ignore[attr-defined]  # it was given one
