"""A response body that tells when it was closed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from bgadapters.adapters import enter_call, leave_call, mode, release_response, settle_unclosed
from bgadapters.wsgi.queues import CHECK_HEADER, RequestQueue, note_end
from bgadapters.wsgi.start import Start, is_sent_as_file

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def on_close(
    environ: WSGIEnvironment,
    body: Iterable[bytes],
    queue: RequestQueue,
    start: Start | None = None,
) -> Iterable[bytes]:
    """Return a body that releases ``queue`` when it was closed, and closes it when it breaks off.

    Args:
        environ: that of the request.
        body: what the application has returned.
        queue: that of the response.
        start: begins the response, or another one if tasks that it adds before its first part
            cannot be kept. Default: then it breaks off.

    A ``wsgi.file_wrapper`` stays what it is, or the server would lose its
    ``sendfile``: only its ``close`` is extended, or that of its file where the
    wrapper takes no attributes, as mod_wsgi's.
    """
    if is_sent_as_file(body, environ):
        file = getattr(body, "filelike", None)
        if _extend_close(body, queue) or _extend_close(file, queue):
            return body
    made = (_SizedBody if hasattr(body, "__len__") else Body)(body, queue, environ, start)
    return made if start is None else made.begun()


def _extend_close(body: Any, queue: RequestQueue) -> bool:
    original = getattr(body, "close", None)
    try:
        body.close = lambda: _close(original, queue)
    except AttributeError:  # a type without a place for it
        return False
    return True


def _close(close: Callable[[], object] | None, queue: RequestQueue) -> None:
    """Close a body, then release its queue."""
    if close is not None:
        token = enter_call(queue)
        try:
            close()
        except BaseException:
            leave_call(token)
            _release(queue)
            raise
        leave_call(token)
    if not queue.end_unused():  # as of most
        _release(queue)


def _release(queue: RequestQueue) -> None:
    note_end(queue)
    holds = queue.runtime.settings.hold_response
    mode.active.release_wsgi(partial(release_response, queue) if holds else queue.release)


class Ending:
    """The end of a response, which comes when it is closed, or dropped without that.

    Args:
        queue: that of the response.
        environ: that of its request.
        is_begun: whether to take what is dropped for a response that was read.
    """

    def __init__(
        self, queue: RequestQueue, environ: WSGIEnvironment, is_begun: bool = True
    ) -> None:
        self._queue = queue
        self._environ = environ
        self._is_begun = is_begun
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def close(self) -> None:
        """Release the queue."""
        self._is_closed = True
        _close(None, self._queue)

    def __del__(self) -> None:
        if not self._is_closed and self._queue.is_open:
            environ = self._environ
            if self._queue.runtime.check_token is not None and CHECK_HEADER in environ:
                return  # a checker is to see what nobody closes: its tasks are lost with the queue
            name = f"The response to {environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
            where = sys._getframe().f_back  # noqa: SLF001  of sys
            mode.active.drop_wsgi(
                partial(settle_unclosed, self._queue, self._is_begun, name, where)
            )


class Body(Ending):
    """A response body that tells when it was closed and whether it broke off."""

    _ahead: list[bytes | None] | None = None  # the first part, before it is asked for
    _iterator: Iterator[bytes] | None = None
    _is_whole = False

    def __init__(
        self,
        body: Iterable[bytes],
        queue: RequestQueue,
        environ: WSGIEnvironment,
        start: Start | None = None,
    ) -> None:
        # Without a call of the base's, as what few responses need is left to the class: each costs
        # each request.
        self._queue = queue
        self._environ = environ
        self._is_begun = self._is_closed = False
        self._body = body
        self._start = start  # as long as nothing of it was sent

    def begun(self) -> Self:
        """Have the first part made with which the response begins, if it has not begun."""
        if self._start is not None and not self._start.has_begun:
            try:
                self._ahead = [self._made()]
            except BaseException:
                with suppress(Exception):
                    self.close()
                raise
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._is_begun = True
        part = self._ahead.pop() if self._ahead else self._made()
        if part is None:
            self._is_whole = True
            raise StopIteration
        return part

    def _made(self) -> bytes | None:
        """Return the next part; None for no more of them."""
        queue = self._queue
        token = enter_call(queue)
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            part = next(self._iterator, None)
            if self._start is not None or queue.is_used:
                part = self._confirmed(part)
        except BaseException as exc:
            note_end(queue)
            queue.close(exc)
            raise
        finally:
            leave_call(token)
        return part

    def _confirmed(self, part: bytes | None) -> bytes | None:
        """Wait until the tasks are kept; return the part to send, None for no more of them."""
        if self._start is None:
            if self._queue.batch.unconfirmed is not None:
                self._queue.confirm()
            return part
        body = self._start.confirmed(self._body)
        self._start = None
        if body is self._body:
            return part
        self._body = body
        self._iterator = iter(body)
        return next(self._iterator, None)

    def close(self) -> None:
        """Close the body, then release the queue."""
        is_first, self._is_closed = not self._is_closed, True
        if self._is_begun and not self._is_whole and is_first:
            note_end(self._queue, client_left=True)
        _close(getattr(self._body, "close", None) if is_first else None, self._queue)


class _SizedBody(Body):
    """The same for a body of known length, from which servers compute a Content-Length."""

    def __iter__(self) -> Iterator[bytes]:
        if type(self._body) not in (list, tuple):
            return self
        self._is_begun = self._is_whole = True  # and no step of it runs code
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen for bodies that have it
