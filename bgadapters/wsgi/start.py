"""A response that begins when its tasks are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import IOBase
from typing import TYPE_CHECKING, Any

from bgadapters.adapters import BackgroundTasksError
from bgadapters.wsgi.queues import RequestQueue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Refused = Callable[[BackgroundTasksError, "StartResponse"], Iterable[bytes]]
"""Returns another body, of a response that says why the tasks of the first one are not kept."""


class Start:
    """The ``start_response`` of an application with a store or an engine.

    As long as it is not known whether the tasks are kept the server is told nothing. PEP 3333 lets
    a response be begun anew, but gunicorn then sends the headers of both. So the response begins
    when its first part is made: what was added until then is kept, or there is another response.
    That is before the application's call returns: granian knows no response that begins later.

    Args:
        start_response: that of the server.
        queue: that of the response.
        refused: answers in the place of the response.

    Attributes:
        has_begun: whether the server was told of the response.
    """

    def __init__(
        self, start_response: StartResponse, queue: RequestQueue, refused: Refused
    ) -> None:
        self._start_response: Any = start_response
        self._queue = queue
        self._refused = refused
        self._held: tuple[str, list[tuple[str, str]]] | None = None
        self.has_begun = False
        self._send: Any = None
        self._failure: BackgroundTasksError | None = None

    def call(self, app: WSGIApplication, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Call the application; return the body to send. One of known length is made: it begins."""
        try:
            body = app(environ, self)
        except BackgroundTasksError as exc:
            if exc is not self._failure or self.has_begun:
                raise
            return self._other_body(exc)
        if not (hasattr(body, "__len__") or is_sent_as_file(body, environ)):
            return body  # whose first part may add more
        try:
            return self.confirmed(body)
        except BaseException:
            close_body(body)
            raise

    def __call__(
        self, status: str, headers: list[tuple[str, str]], *exc_info: Any
    ) -> Callable[[bytes], object]:
        """Begin the response when its tasks are kept."""
        if self.has_begun:  # the server raises what has failed, if anything has
            self._send = self._start_response(status, headers, *exc_info)
        elif self._held is not None and not any(exc_info):
            raise AssertionError("start_response was called a second time, without exc_info")
        else:
            self._held = status, headers
        return self._write

    def confirmed(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Wait until the tasks are kept, and begin; return the body to send.

        That is another one, which says so, if they cannot be kept.

        Raises:
            BackgroundTasksError: they are not, and the response has begun.
        """
        try:
            self._confirm()
        except BackgroundTasksError as exc:
            if self.has_begun:
                raise
            try:
                return self._other_body(exc)
            finally:
                close_body(body)
        self._begin()
        return body

    def _confirm(self) -> None:
        """Wait until the tasks are kept. Once they were not, whoever handles that changes nothing.

        Raises:
            BackgroundTasksError: they are not.
        """
        queue = self._queue
        if queue.is_used and self._failure is None and queue.batch.unconfirmed is not None:
            try:
                queue.confirm()
            except BackgroundTasksError as exc:
                self._failure = exc
        if self._failure is not None:
            raise self._failure

    def _begin(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self.has_begun = True
            self._send = self._start_response(*held)

    def _other_body(self, exception: BackgroundTasksError) -> Iterable[bytes]:
        """Return the body of another response: the server knows nothing of this one."""
        self.has_begun, self._held, self._failure = True, None, None
        return self._refused(exception, self)

    def _write(self, data: bytes) -> object:
        """Send a part of the body in the old way."""
        self._confirm()
        self._begin()
        return self._send(data)


def close_body(body: Iterable[bytes]) -> None:
    """Close what an application has returned, if that can be closed."""
    close = getattr(body, "close", None)
    if close is not None:
        close()


def is_sent_as_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server sends this body by itself, as the file that it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # uWSGI's wrapper is a function that returns the file itself, to recognize it afterwards.
    return wrapper is not None and isinstance(body, IOBase)
