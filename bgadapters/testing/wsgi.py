"""Closes WSGI responses for a test, whose client may never do it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from bgadapters.adapters import loop_runs_here

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def serve(
    application: Callable[..., Iterable[bytes]],
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

    body = application(environ, noting)
    if is_known or hasattr(body, "__len__"):
        with closing(body):  # type: ignore[type-var]  # it was given a close
            return _Read(body)
    return _SelfClosing(body)


def release(release: Callable[[], None]) -> None:
    """Release in this thread, or beside it: the loop stands of a coroutine that has called."""
    if not loop_runs_here():
        release()
        return
    thread = threading.Thread(target=release)
    thread.start()
    thread.join()


class _Read(list[bytes]):
    """A body that was read and closed, for a client that closes it as it should."""

    def close(self) -> None:
        """Do nothing: it is closed."""


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
