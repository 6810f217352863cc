"""When an ASGI response is complete, and a middleware for any ASGI application.

ASGI has no close hook: a response is over when the application's call returns.
The tasks then run in asyncio tasks of their own, which the call awaits, so that
servers count it as unfinished and test clients see its effects; but shielded,
since some servers cancel the call of a client that left. With the setting
``await_tasks=False`` the call returns, and the end of the lifespan waits for them.

A WebSocket has no response to wait for: its tasks start as they are added.
"""

from __future__ import annotations

import logging
import sys
from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import Token
from types import FrameType
from typing import Any, Unpack
from weakref import WeakSet

from bgadapters.adapters import (
    BackgroundTasks,
    BackgroundTasksError,
    Batch,
    LazyBatch,
    LiveTasks,
    Runtime,
    SettingNames,
    answer_check,
    arelease_response,
    awaits_tasks,
    check_drain_is_certain,
    closes_with_the_call,
    enter_call,
    leave,
    log,
    loop_runs_here,
    parse_settings,
    prepare_loops,
    start_serving,
    task_running_here,
)
from bgadapters.asgi_frameworks import listen, refuse
from bgadapters.asgi_lifespan import Lifespan
from bgadapters.asgi_types import ASGIApp, Message, Receive, Scope, Send

prepare_loops()

RESPONSE_KEY = "bgadapters.response"
"""Where the ASGI scope holds the `Response` being made."""


class NoResponseSent(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """The application returned without a response, as it does when the client has left."""


class _ResponseQueue(BackgroundTasks):
    """A queue that its `Response` releases, and not the framework's response it may be given to."""

    __slots__ = ("loop",)

    def __init__(self, runtime: Runtime, path: str | None, method: str | None) -> None:
        self.runtime = runtime
        self.batch = Batch(path, 0, None, runtime.scheduler.on_lost, method)
        try:
            self.loop = get_running_loop()
        except RuntimeError:  # trio's
            self.loop = None

    async def __call__(self) -> None:
        """Do nothing: as the ``background`` of a response it would run before the response ends."""


class _LazyQueue(LazyBatch):
    """The same where few views add a task."""

    __slots__ = ("loop",)

    def __init__(self, runtime: Runtime, path: str | None, method: str | None) -> None:
        self.runtime = runtime
        try:
            self.loop = get_running_loop()
        except RuntimeError:  # trio's
            self.loop = None
        self.is_used = False
        self.request_path = path
        self.request_method = method
        self.made = {}
        self.noted = None

    async def __call__(self) -> None:
        """Do nothing: as `_ResponseQueue`."""


class _SocketQueue(LiveTasks):
    """The queue of a WebSocket, which its `Response` closes."""

    __slots__ = ()

    async def __call__(self) -> None:
        """Do nothing: as the ``background`` of a response that denies the connection."""


_left_over: WeakSet[BackgroundTasks] = WeakSet()
"""Queues whose call has ended, while a handler further out may add to them."""


class Response:
    """One response with its queue: when it is held back, and what its end means for the tasks.

    Its queue is the current one from here on, until it ends.

    The policy for every ASGI framework; those who use it only tell it what they see.

    Args:
        runtime: the settings and workers to use.
        path: that of the request.
        is_socket: whether it is a WebSocket, whose tasks start as they are added.
        method: that of the request.
        opener: who opens it. What it sees inside of itself is another request.
        is_asked_for: whether the view has asked for the queue, so that it will add to it. Default:
            False, as for a middleware, below which few views add a task.

    Attributes:
        refusal: why its tasks could not be kept; None if nothing was refused.
        has_begun: whether anything of it was sent.
        holds: whether its end waits for its tasks.
        held: sends what is held back of its end; None if nothing is.
        client_left: whether the server has said so, when it was given a part of it.
        is_complete: whether the server was given the last of it; a middleware sees.
        is_watched: whether a middleware sees what the server says to each send, by `send`.
        server_receive: what `receive` has its messages from.
        server_send: where `send` passes them on to.
        is_observed: whether a second one, further in, sees what is raised there.

    Raises:
        SettingsError: with ``await_tasks=False``, nobody would wait for the tasks; see
            `check_drain_is_certain`.
    """

    server_receive: Receive
    server_send: Send

    def __init__(  # noqa: PLR0917  names of arguments would cost each request
        self,
        runtime: Runtime,
        path: str | None = None,
        is_socket: bool = False,
        method: str | None = None,
        opener: object = None,
        is_asked_for: bool = False,
    ) -> None:
        # All of them, though few responses need all: where the class has a default for an attribute
        # Python looks in several places each time that it is asked for or set.
        self.is_socket = is_socket
        self.holds = self.has_begun = self.produced = self.client_left = False
        self.is_complete = self.is_watched = self.is_observed = False
        self.held: Callable[[], Awaitable[None]] | None = None
        self.status: int | None = None
        self.refusal: BackgroundTasksError | None = None
        self._failure: BaseException | None = None
        self._previous: Any = None
        if not runtime.serves_plainly:
            check_drain_is_certain(runtime)
            start_serving(runtime)
            if runtime.settings.hold_response and not is_socket:
                self.holds = is_asked_for = True
        queue: _ResponseQueue | _LazyQueue | _SocketQueue
        if is_socket:
            queue = _SocketQueue(runtime=runtime, path=path, method=method)
        elif is_asked_for:
            queue = _ResponseQueue(runtime, path, method)
        else:
            queue = _LazyQueue(runtime, path, method)
        self.queue: _ResponseQueue | _LazyQueue | _SocketQueue = queue
        self.opener = opener
        self._handled_before = sys.exception()  # by the server or a test: not ours
        previous = enter_call(queue).old_value
        if previous is not None and previous is not Token.MISSING:
            self._come_after(previous)

    def _come_after(self, previous: Any) -> None:
        if previous in _left_over:
            previous.release()  # a server that serves several requests in one asyncio task
        else:
            self._previous = previous

    def start(self, status: int) -> None:
        """A response begins. Sent while an exception is handled, it may be that exception's.

        So frameworks answer (Starlette, Litestar) whose own layers turn an exception of
        the view into a response before any middleware could see it. But a middleware may as
        well handle one of its own, a miss in its cache, and go on with the application.
        """
        self.produced = True
        self.status = status
        exception = sys.exception()
        if exception is None or exception is self._handled_before:
            return
        if self._failure is None and not self.is_observed and _left_an_application(exception):
            self.fail(exception)

    def answer(self) -> None:
        """The view has returned its response. What is being handled now is not its failure."""
        self.produced = True
        if self._failure is not None:
            self._failure = None
        queue = self.queue
        if queue.is_used and queue.batch.response is not None:
            queue.batch.forget_failure()
        self._handled_before = sys.exception()

    def fail(self, exception: BaseException, since: int = 0) -> None:
        """An exception escaped the view. Tasks added from now on belong to its handler.

        Args:
            exception: the exception.
            since: the queue's `position` when the part that failed began.
        """
        self._failure = exception
        self.queue.discard(exception, since)

    async def confirm(self) -> None:
        """Have kept what was added, before a response says that it was.

        To be called if ``queue.batch.unconfirmed`` is not None.

        Raises:
            BackgroundTasksError: it cannot be kept. The tasks were discarded, and nothing is to
                be sent but that.
        """
        try:
            await self.queue.aconfirm()
        except BackgroundTasksError as exc:
            self.refusal = exc
            self.fail(exc)
            raise

    @property
    def may_be_refused(self) -> bool:
        """Whether it was refused, or may be: it has tasks that are to be kept."""
        return self.queue.batch.unconfirmed is not None or self.refusal is not None

    @property
    def is_refused(self) -> bool:
        """Whether its tasks could not be kept, and nothing of it was sent."""
        return self.refusal is not None and not self.has_begun

    @property
    def may_end(self) -> bool:
        """Whether its last byte may be sent, for all that is known of its tasks; else `prepare`."""
        return self.queue.batch.unconfirmed is None and self.queue.take_capacity()

    async def prepare(self) -> None:
        """Do what comes before the last byte of a response that has tasks.

        Raises:
            BackgroundTasksError: they cannot be kept; see `confirm`.
        """
        if self.queue.batch.unconfirmed is not None:
            await self.confirm()
        await self.queue.await_capacity()

    # What an application receives and sends for it, on its way: here, and not in an object of its
    # own, which would cost each request.

    async def receive(self) -> Message:
        """Note if the server tells that the client leaves, before it was given all of the response.

        Servers say it of a response that is complete as well.
        """
        message = await self.server_receive()
        if message["type"] == "http.disconnect" and not self.is_complete:
            self.queue.note_response(client_left=True)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message on. The last of a response with tasks is kept back until there is room."""
        kind = message["type"]
        if kind == "http.response.start":
            if self.queue.is_used and self.may_be_refused:
                message = await _begun(message, self)
            elif sys.exception() is None:  # as nearly always
                self.produced = True
                self.status = message["status"]
            else:
                self.start(message["status"])
            self.has_begun = True
        elif not message.get("more_body", False):
            if self.queue.is_used and len(self.queue):
                if not self.may_end:
                    await self.prepare()
                if kind == "http.response.pathsend":
                    await _send_file(message["path"], self._send_part)
                    return
            self.is_complete = True
        try:
            await self.server_send(message)
        except OSError:  # how servers of ASGI 2.4 and later say that the client has left
            self.client_left = True
            raise

    async def _send_part(self, message: Message) -> None:
        self.is_complete = not message["more_body"]
        try:
            await self.server_send(message)
        except OSError:
            self.client_left = True
            raise

    def end_unused(self) -> bool:
        """The call has returned a response: end it if nothing has asked for its batch, else not.

        Returns:
            Whether it has ended. Otherwise `end` is to be called.
        """
        queue: Any = self.queue
        if queue.is_used or queue.made.setdefault("batch", None) is not None:  # no call: it costs
            return False
        leave(queue, self._previous)
        return True

    def end(
        self, exception: BaseException | None, scope: Scope
    ) -> Coroutine[Any, Any, None] | None:
        """The call that made this response has returned or raised.

        Args:
            exception: what it has raised.
            scope: its scope.

        Returns:
            What is to be awaited then, at once; None if there is nothing to wait for.
        """
        queue = self.queue
        if exception is not None and self._leave_over(exception, scope):
            return None
        leave(queue, self._previous)
        batch = queue.batch
        if batch.added is not None:  # else nobody will ask
            has_left = self.client_left or (
                exception is not None and isinstance(exception, CancelledError)
            )
            batch.note_response(self.status, None, has_left)
        if exception is None and not self.holds and self._is_awaited():
            return queue.begin_release()
        if self.holds and not isinstance(exception, CancelledError):
            return self._end_held(exception)
        if isinstance(queue, LiveTasks):
            queue.end()
        elif exception is None or (self.produced and self._is_whole_despite(exception)):
            queue.release()  # no awaiting: whoever cancels the call expects it to end
        else:
            queue.close(exception)
        return None

    def _is_awaited(self) -> bool:
        """Whether the call waits for the tasks of its response, which has been sent.

        A task that calls its own application may have the thread that these tasks need.
        """
        runtime = self.queue.runtime
        return (runtime.serves_plainly or awaits_tasks(runtime)) and (
            self.is_socket or not (closes_with_the_call() or task_running_here())
        )

    async def _end_held(self, exception: BaseException | None) -> None:
        """Run the tasks, then send what was held back of the response."""
        if exception is not None and not (self.produced and self._is_whole_despite(exception)):
            self.queue.close(exception)
        send, self.held = self.held, None
        await self.queue.await_capacity()
        try:
            await arelease_response(self.queue)
        finally:
            if send is not None:
                await send()

    def _is_whole_despite(self, exception: BaseException) -> bool:
        """Whether an exception is no failure of a response that was produced."""
        return (
            self.client_left
            or isinstance(exception, CancelledError)
            or exception is self._failure  # answered, and raised again for the server's log
        )

    def _leave_over(self, exception: BaseException, scope: Scope) -> bool:
        """Keep the queue for a handler further out, until the asyncio task that serves has ended.

        Returns:
            Whether there is such a handler, and the queue could be kept.
        """
        queue = self.queue
        if self.produced or not _has_handler_outside(exception, scope):
            return False
        task = current_task() if loop_runs_here() else None
        if task is None or self.is_socket or self._previous is not None:
            return False
        self.fail(exception)
        _left_over.add(queue)
        task.add_done_callback(lambda _: queue.release())
        return True


def open_response(scope: Scope) -> Response | None:
    """Return the response being made for this scope, None if there is none or it has ended."""
    response: Response | None = scope.get(RESPONSE_KEY)
    return response if response is not None and response.queue.is_open else None


def _fail(scope: Scope, exception: BaseException) -> None:
    response = open_response(scope)
    if response is not None:
        response.fail(exception)


def _has_handler_outside(exception: BaseException, scope: Scope) -> bool:
    """Whether Starlette will have a handler answer: that of ``Exception``, outside of all else."""
    handlers = getattr(scope.get("app"), "exception_handlers", None)
    return (
        isinstance(exception, Exception)
        and isinstance(handlers, Mapping)
        and (Exception in handlers or 500 in handlers)
    )


def _left_an_application(exception: BaseException) -> bool:
    """Whether an exception that is handled somewhere was raised through a call of an application.

    Such a call has a frame whose arguments are a scope and two callables. The frame in which it is
    handled does not count: what that has called may be anything.
    """
    traceback = exception.__traceback__
    while traceback is not None and (traceback := traceback.tb_next) is not None:
        if _serves(traceback.tb_frame):
            return True
    return False


def _serves(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_argcount < 3:
        return False
    names, values = code.co_varnames[: code.co_argcount], frame.f_locals
    scope, receive, send = (values.get(name) for name in names[-3:])
    return isinstance(scope, Mapping) and "type" in scope and callable(receive) and callable(send)


def check_header(scope: Scope) -> str | None:
    """Return the header of a request by which a checker asks for its probe."""
    for name, value in scope.get("headers", ()):
        if name == b"bgadapters-check":
            return str(value, "latin-1")
    return None


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
            send = _Held(send, response, scope["method"]) if response.holds else response.send
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


async def _begun(message: Message, response: Response) -> Message:
    """Note that a response begins; return its head as it is to be sent.

    A framework that answers every exception by itself says 500 to one that it does not know.
    """
    if response.is_refused and message["status"] == 500:
        message = {**message, "status": 503}
    response.start(message["status"])
    if response.queue.batch.unconfirmed is not None:
        await response.confirm()
    return message


class _Held:
    """Holds the end of a response back, for the time when its tasks have run.

    A response that tells its length is taken to be whole with its last byte, or with its head if
    it has no body. So that is what is held back of it.
    """

    def __init__(self, send: Send, response: Response, method: str) -> None:
        self._send = send
        self._response = response
        self._method = method
        self._kept: list[Message] = []
        self._tells_length = False
        self._is_bodyless = False

    async def __call__(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.pathsend":
            await _send_file(message["path"], self)
        elif kind == "http.response.start":
            await self._start(message)
        elif kind != "http.response.body":
            await self._pass_on(message)
        else:
            await self._body(message)

    async def _start(self, message: Message) -> None:
        message = await _begun(message, self._response)
        self._kept = []  # of a response that was refused
        length = dict(message.get("headers", ())).get(b"content-length")
        self._tells_length = length is not None
        self._is_bodyless = (
            self._method == "HEAD" or length == b"0" or message["status"] in (204, 304)
        )
        await (self._keep if self._is_bodyless else self._pass_on)(message)

    async def _body(self, message: Message) -> None:
        is_last = not message.get("more_body", False)
        if is_last or self._tells_length or self._is_bodyless:
            await self._keep(message)
        else:
            await self._pass_on(message)
        if is_last:
            if self._response.queue.batch.unconfirmed is not None:
                await self._response.confirm()
            self._response.held = self._pass_kept

    async def _keep(self, message: Message) -> None:
        if self._kept and not self._is_bodyless:
            if not message.get("body"):  # it only says whether the one before was the last
                self._kept[-1] = {**self._kept[-1], "more_body": message.get("more_body", False)}
                return
            await self._pass_kept()
        self._kept.append(message)

    async def _pass_kept(self) -> None:
        messages, self._kept = self._kept, []
        await self._pass_on(*messages)

    async def _pass_on(self, *messages: Message) -> None:
        try:
            for message in messages:
                self._response.has_begun = True
                await self._send(message)
        except OSError:
            self._response.client_left = True
            raise


_CHUNK = 1 << 18


async def _send_file(path: str, send: Send) -> None:
    """Send a file in the place of the server, which would open it after the tasks have begun."""
    loop = get_running_loop()
    file = await loop.run_in_executor(None, open, path, "rb")
    try:
        while chunk := await loop.run_in_executor(None, file.read, _CHUNK):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    finally:
        file.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _paced(receive: Receive, response: Response) -> Receive:
    """Let a WebSocket take its next message when there is capacity for what it may add."""

    async def paced() -> Message:
        await response.queue.runtime.admission.await_capacity_for_one()
        return await receive()

    return paced
