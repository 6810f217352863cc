"""A response whose end comes after its tasks have run: the setting ``hold_response``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import IOBase
from typing import TYPE_CHECKING, Any

from bgadapters.wsgi.body import Body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse


class Head:
    """Whether a response tells its length: who reads it takes it to be whole with its last byte."""

    tells_length = False

    def note(
        self,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        *exc_info: Any,
    ) -> Callable[[bytes], object]:
        """Do as ``start_response``, which this does not keep: it may be of whoever has the body."""
        self.tells_length = any(name.lower() == "content-length" for name, _ in headers)
        return start_response(status, headers, *exc_info)


class HeldBody:
    """A response body whose end comes after its tasks have run, with ``hold_response``.

    Callers of serverless platforms may never close a response, or freeze the process as soon as
    the last byte is there. So the body closes itself when it has been read, and the last part of
    one that tells its length comes after that.
    """

    def __init__(self, body: Body, head: Head) -> None:
        self._body = body
        self._parts = _held(body, head)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        """Close the body, if it has not closed itself."""
        self._parts.close()
        if not self._body.is_closed:  # else it has waited for its tasks
            self._body.close()


def _held(body: Body, head: Head) -> Generator[bytes, None, None]:
    last: bytes | None = None
    failure: BaseException | None = None
    try:
        for part in body:
            if last is not None:
                yield last
                last = None
            if head.tells_length:
                last = part
            else:
                yield part
        body.close()
    except GeneratorExit:  # it is closed before its end
        return
    except BaseException as exc:
        failure = exc
        with suppress(Exception):  # what runs although its response has failed is waited for
            body.close()
    if last is not None:
        yield last
    if failure is not None:
        raise failure


def in_chunks(body: Iterable[bytes]) -> Iterable[bytes]:
    """Have a file that uWSGI would have sent be read in parts, and not line by line."""
    return _FileInChunks(body) if isinstance(body, IOBase) else body


class _FileInChunks:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(partial(self._file.read, 1 << 16), b"")
