"""When a WSGI response is closed (PEP 3333), and a middleware for any WSGI application.

PEP 3333: "If the iterable returned by the application has a ``close()`` method,
the server or gateway **must** call that method upon completion of the current
request", whether it completed normally or not. Several servers complete the
response, or take the next request of the connection, only after ``close()`` has
returned: so it releases the queue to worker threads and does nothing else.

A queue is the current one while code below its response runs: the application's
call, each step of its body, its close. So one request can make another in the
middle of its own.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import partial
from io import IOBase
from typing import TYPE_CHECKING, Any, ParamSpec, Self, Unpack

from bgadapters.adapters import (
    BackgroundTasksError,
    FrameworkHooks,
    Installation,
    LazyBatch,
    OptionNames,
    Runtime,
    SettingNames,
    TaskOptions,
    WithOptions,
    answer_check,
    enter_call,
    found,
    leave_call,
    log,
    mode,
    parse_settings,
    release_response,
    settle_unclosed,
    start_serving,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

P = ParamSpec("P")

QUEUE_KEY = "bgadapters.queue"
"""Where the WSGI environ holds the request's queue."""

_CHECK_HEADER = "HTTP_BGADAPTERS_CHECK"


INSTALLATION = Installation(
    missing=lambda: None,
    advice=lambda: "Make the application in the main thread: no other may handle SIGTERM.",
)
"""Of an application that handles SIGTERM where it is made."""


class RequestQueue(LazyBatch):
    """The queue of one request, which knows whose it is: an environ is copied for others.

    Attributes:
        opener: the middleware that has opened it. What it is called with further in is another
            request, made by a view. None once a framework serves the request: then whatever is
            called with its environ is.
        environ: the identity of the environ that it was opened for.
        status: the status line of the response; None as long as it has none.
    """

    __slots__ = ("environ", "opener", "status")

    def __init__(self, runtime: Runtime, environ: WSGIEnvironment, opener: object) -> None:
        self.runtime = runtime
        self.is_used = False
        self.made = {}
        self.noted = None
        self.request_path = environ.get("PATH_INFO")
        self.request_method = environ.get("REQUEST_METHOD")
        self.opener = opener
        self.environ = id(environ)
        self.status: str | None = None

    def note_status(
        self,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        """Do as ``start_response``, and note the status.

        What the server returns sends a part of the body at once.
        """
        self.status = status
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    def is_shared_with(self, middleware: object, environ: WSGIEnvironment) -> bool:
        """Whether a middleware that is called with this environ serves the same request."""
        opener = self.opener
        return (
            opener is not None
            and opener is not middleware
            and self.environ == id(environ)
            and self.is_open
        )


class _UpgradeQueue(RequestQueue):
    """The queue of a request that may become a connection: of that some events are handled here.

    Whatever handles them may know a queue whose tasks need not wait for its end.
    """

    __slots__ = ()

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        queue = found()
        if queue is None:
            super().add_task(func, *args, **kwargs)
        else:
            queue.add_task(func, *args, **kwargs)

    def flush(self) -> None:
        queue = found()
        if queue is None:
            super().flush()

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        queue = found()
        if queue is None:
            return super().options(base, **options)
        made: WithOptions = queue.options(base, **options)
        return made


def open_queue(runtime: Runtime, environ: WSGIEnvironment, opener: object = None) -> RequestQueue:
    """Return a new queue for a request, which the environ then holds.

    Args:
        runtime: the settings and workers to use.
        environ: that of the request.
        opener: the middleware that opens it. Default: a framework does, which serves it already.
    """
    kind = _UpgradeQueue if "HTTP_UPGRADE" in environ else RequestQueue
    queue = environ[QUEUE_KEY] = kind(runtime, environ, opener)
    if runtime.settings.store is not None:
        start_serving(runtime)
    if runtime.check_token is not None:
        answer_check(queue, environ.get(_CHECK_HEADER), "wsgi")
    return queue


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
            head = _Head()
            start_response = partial(head.note, start_response)
        start: _Start | None = None
        if self.runtime.confirms_tasks:
            start = start_response = _Start(start_response, queue, partial(self._refused, environ))
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
            made = _Body(_in_chunks(body), queue, environ, start)
            return _HeldBody(made.begun(), head)
        return on_close(environ, body, queue, start)


def _fail(queue: RequestQueue, environ: WSGIEnvironment, exception: BaseException) -> None:
    """The application has raised an exception, instead of returning a body."""
    if isinstance(exception, StopIteration) and "HTTP_UPGRADE" in environ:
        queue.release()  # a handler took the connection over, and has ended: gunicorn's way
    else:
        _note_end(queue)
        queue.close(exception)


_Refused = Callable[[BackgroundTasksError, "StartResponse"], Iterable[bytes]]
"""Returns another body, of a response that says why the tasks of the first one are not kept."""


class _Start:
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
        self, start_response: StartResponse, queue: RequestQueue, refused: _Refused
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
        if not (hasattr(body, "__len__") or _is_sent_as_file(body, environ)):
            return body  # whose first part may add more
        try:
            return self.confirmed(body)
        except BaseException:
            _close_body(body)
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
                _close_body(body)
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


def _close_body(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def on_close(
    environ: WSGIEnvironment,
    body: Iterable[bytes],
    queue: RequestQueue,
    start: _Start | None = None,
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
    if _is_sent_as_file(body, environ):
        file = getattr(body, "filelike", None)
        if _extend_close(body, queue) or _extend_close(file, queue):
            return body
    made = (_SizedBody if hasattr(body, "__len__") else _Body)(body, queue, environ, start)
    return made if start is None else made.begun()


def _is_sent_as_file(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether the server sends this body by itself, as the file that it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # uWSGI's wrapper is a function that returns the file itself, to recognize it afterwards.
    return wrapper is not None and isinstance(body, IOBase)


def _extend_close(body: Any, queue: RequestQueue) -> bool:
    original = getattr(body, "close", None)
    try:
        body.close = lambda: _close(original, queue)
    except AttributeError:  # a type without a place for it
        return False
    return True


def _note_end(queue: RequestQueue, client_left: bool = False) -> None:
    """Note what was seen of a response that ends, if there is a task to ask for it."""
    if queue.is_used and queue.batch.added is not None:
        queue.note_response(queue.status, client_left=client_left)


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
    _note_end(queue)
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
            if self._queue.runtime.check_token is not None and _CHECK_HEADER in environ:
                return  # a checker is to see what nobody closes: its tasks are lost with the queue
            name = f"The response to {environ.get('REQUEST_METHOD')} {environ.get('PATH_INFO')}"
            where = sys._getframe().f_back  # noqa: SLF001  of sys
            mode.active.drop_wsgi(
                partial(settle_unclosed, self._queue, self._is_begun, name, where)
            )


class _Body(Ending):
    """A response body that tells when it was closed and whether it broke off."""

    _ahead: list[bytes | None] | None = None  # the first part, before it is asked for
    _iterator: Iterator[bytes] | None = None
    _is_whole = False

    def __init__(
        self,
        body: Iterable[bytes],
        queue: RequestQueue,
        environ: WSGIEnvironment,
        start: _Start | None = None,
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
            _note_end(queue)
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
        is_first, self._is_closed = not self._is_closed, True
        if self._is_begun and not self._is_whole and is_first:
            _note_end(self._queue, client_left=True)
        _close(getattr(self._body, "close", None) if is_first else None, self._queue)


class _SizedBody(_Body):
    """The same for a body of known length, from which servers compute a Content-Length."""

    def __iter__(self) -> Iterator[bytes]:
        if type(self._body) not in (list, tuple):
            return self
        self._is_begun = self._is_whole = True  # and no step of it runs code
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen for bodies that have it


class _Head:
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


class _HeldBody:
    """A response body whose end comes after its tasks have run, with ``hold_response``.

    Callers of serverless platforms may never close a response, or freeze the process as soon as
    the last byte is there. So the body closes itself when it has been read, and the last part of
    one that tells its length comes after that.
    """

    def __init__(self, body: _Body, head: _Head) -> None:
        self._body = body
        self._parts = _held(body, head)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        self._parts.close()
        if not self._body.is_closed:  # else it has waited for its tasks
            self._body.close()


def _held(body: _Body, head: _Head) -> Generator[bytes, None, None]:
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


def _in_chunks(body: Iterable[bytes]) -> Iterable[bytes]:
    """Have a file that uWSGI would have sent be read in parts, and not line by line."""
    return _FileInChunks(body) if isinstance(body, IOBase) else body


class _FileInChunks:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(partial(self._file.read, 1 << 16), b"")
