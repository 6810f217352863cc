"""The three ways to send a request: as a WSGI server, as an ASGI server, over HTTP.

The first two are strict: they do what the specifications ask of a server and nothing
that would help an application along.
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection, RemoteDisconnected
from typing import Any, Literal, Protocol
from urllib.parse import quote, unquote, urlsplit

Headers = list[tuple[str, str]]
Watch = Callable[[], object]
"""Called at moments at which no task may have started yet."""


class LeaveItError(Exception):
    """Raised by a watch: whatever comes next would block this process, the checker included."""


@dataclass(frozen=True)
class Request:
    """What is sent."""

    path: str = "/"  # with its query
    method: str = "GET"
    headers: Headers = field(default_factory=list[tuple[str, str]])

    def with_header(self, name: str, value: str) -> Request:
        """Return the same with one more header."""
        return Request(self.path, self.method, [*self.headers, (name, value)])

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Answer:
    """What came of it."""

    status: int | None = None  # None: no response
    seconds: float = 0.0  # until the response was complete
    error: str | None = None  # what the application raised, or the connection
    is_kept: bool = True  # whether the connection may be used again

    def __str__(self) -> str:
        status = "nothing" if self.status is None else str(self.status)
        return status if self.error is None else f"{status}; {self.error}"


class Gateway(Protocol):
    """Something to send requests with, from one thread."""

    @property
    def name(self) -> Literal["wsgi", "asgi", "url"]:
        """Which of the three it is."""
        ...

    def send(self, request: Request, watch: Watch = ...) -> Answer:
        """Send a request; return when its response is complete."""
        ...


def _ignore() -> None:
    pass


class HTTPGateway:
    """Sends requests to a server that runs already, over one connection if that is kept.

    Args:
        url: the scheme, host and port are used.
        timeout: seconds without an answer after which the server counts as stuck.
    """

    name: Literal["url"] = "url"

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = make(parts.hostname or "", parts.port, timeout=timeout)

    def send(self, request: Request, watch: Watch = _ignore) -> Answer:  # noqa: ARG002
        """Send a request; return when its response is complete."""
        started = time.monotonic()
        answer = Answer()
        try:
            try:
                self._exchange(request, answer)
            except RemoteDisconnected:  # a kept connection that the server has closed meanwhile
                answer.is_kept = False
                self._exchange(request, answer)
        except (OSError, HTTPException) as exc:
            answer.error = _brief(exc)
            self._connection.close()
        answer.seconds = time.monotonic() - started
        return answer

    def _exchange(self, request: Request, answer: Answer) -> None:
        self._connection.request(request.method, request.path, headers=dict(request.headers))
        response = self._connection.getresponse()
        answer.status = response.status
        answer.is_kept = answer.is_kept and not response.will_close
        response.read()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class WSGIGateway:
    """Calls a WSGI application as PEP 3333 asks of a server.

    Args:
        application: the application.
        timeout: seconds after which a body without end is given up.
    """

    name: Literal["wsgi"] = "wsgi"

    def __init__(self, application: Callable[..., Iterable[bytes]], timeout: float) -> None:
        self._application = application
        self._timeout = timeout

    def send(self, request: Request, watch: Watch = _ignore) -> Answer:
        """Serve a request; return when its response was closed."""
        started = time.monotonic()
        answer = Answer()
        try:
            # In a context of its own, which ends with the request and keeps nothing of it.
            copy_context().run(self._serve, request, answer, watch, started + self._timeout)
        except LeaveItError:
            pass
        except Exception as exc:
            answer.error = _brief(exc)
        answer.seconds += time.monotonic() - started
        gc.collect()  # a body that was never closed is gone now, and its queue with it
        return answer

    def _serve(self, request: Request, answer: Answer, watch: Watch, deadline: float) -> None:
        def start_response(status: str, _: Headers, exc_info: Any = None) -> Callable[..., object]:
            answer.status = int(status.split(maxsplit=1)[0])
            del exc_info  # nothing was sent yet, so it asks for nothing
            return lambda data: None  # noqa: ARG005

        body = self._application(_environ(request), start_response)
        _look(watch, answer)
        try:
            for _ in body:
                if time.monotonic() > deadline:
                    raise TimeoutError(_ENDLESS)
            _look(watch, answer)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()


def _look(watch: Watch, answer: Answer) -> None:
    """Let ``watch`` look, which takes time that is not the application's."""
    started = time.monotonic()
    watch()
    answer.seconds -= time.monotonic() - started


_ENDLESS = "the response did not end in time"


class _FileWrapper:
    """The server's own way of sending files, as PEP 3333 offers it."""

    def __init__(self, file: Any, block_size: int = 8192) -> None:
        self._file = file
        self._block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self._file.read(self._block_size), b"")


def _environ(request: Request) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "localhost",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": _FileWrapper,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
    return environ


class ASGIGateway:
    """Calls an ASGI application as its specification asks of a server.

    It is made, started and stopped on the event loop, and used from another thread.

    Args:
        application: the application.
        timeout: seconds after which a response without end is given up.
    """

    name: Literal["asgi"] = "asgi"

    def __init__(self, application: Callable[..., Any], timeout: float) -> None:
        self._application = application
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._calls: set[asyncio.Task[None]] = set()
        self._orders: asyncio.Queue[str] = asyncio.Queue()
        self._answers: asyncio.Queue[str] = asyncio.Queue()
        self._state: dict[str, Any] = {}
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> str | None:
        """Ask the application to start; return why it would not."""

        async def send(message: Any) -> None:
            self._answers.put_nowait(message["type"])

        async def receive() -> Any:
            return {"type": await self._orders.get()}

        async def live() -> None:
            scope = {"type": "lifespan", "asgi": _VERSIONS, "state": self._state}
            try:
                await self._application(scope, receive, send)
            except Exception as exc:
                failure.append(exc)
            self._answers.put_nowait("")

        failure: list[Exception] = []
        self._lifespan = asyncio.create_task(live())
        answer = await self._order("lifespan.startup")
        if answer == "lifespan.startup.failed":
            return "; ".join(["it answered lifespan.startup.failed", *map(_brief, failure)])
        if answer != "lifespan.startup.complete":
            self._lifespan = None  # it does not speak the protocol, as the specification allows
        return None

    async def stop(self) -> None:
        """Have the application shut down, if it speaks the lifespan protocol."""
        if self._lifespan is not None:
            await self._order("lifespan.shutdown")
            self._lifespan = None

    def begin_shutdown(self) -> Future[None]:
        """Begin what `stop` does, from another thread; return what has a result when it ends."""
        return asyncio.run_coroutine_threadsafe(self.stop(), self._loop)

    async def _order(self, order: str) -> str:
        self._orders.put_nowait(order)
        return await self._answers.get()

    def send(self, request: Request, watch: Watch = _ignore) -> Answer:
        """Serve a request; return when its response is complete, while its call may go on."""
        started = time.monotonic()
        answer = Answer()
        complete: Future[None] = Future()
        self._loop.call_soon_threadsafe(self._begin, request, answer, complete, watch)
        try:
            complete.result(self._timeout)
        except TimeoutError:
            answer.error = f"TimeoutError: {_ENDLESS}"
        answer.seconds += time.monotonic() - started
        return answer

    def _begin(
        self, request: Request, answer: Answer, complete: Future[None], watch: Watch
    ) -> None:
        call = self._loop.create_task(self._serve(request, answer, complete, watch))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _serve(
        self, request: Request, answer: Answer, complete: Future[None], watch: Watch
    ) -> None:
        over = asyncio.Event()
        bodies = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Any:
            if bodies:
                return bodies.pop()
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                _look(watch, answer)  # which blocks the loop, but nothing else is going on there
                end()

        def end() -> None:
            over.set()
            if not complete.done():
                complete.set_result(None)

        try:
            await self._application(_scope(request, self._state.copy()), receive, send)
        except Exception as exc:
            answer.error = _brief(exc)
        finally:
            gc.collect()  # a body that was never closed is gone now, and its queue with it
            end()


_VERSIONS = {"version": "3.0", "spec_version": "2.4"}


def _scope(request: Request, state: dict[str, Any]) -> dict[str, Any]:
    path, _, query = request.path.partition("?")
    headers = {"host": "localhost", **{name.lower(): value for name, value in request.headers}}
    return {
        "type": "http",
        "asgi": _VERSIONS,
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": quote(path, safe="/%").encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("localhost", 80),
        "state": state,
        "extensions": {},
    }


def _brief(exception: BaseException) -> str:
    lines = str(exception).splitlines()
    return f"{type(exception).__name__}: {lines[0]}" if lines else type(exception).__name__
