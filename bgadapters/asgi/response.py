"""One response with its queue: what its parts and its end mean for the tasks."""

from __future__ import annotations

import sys
from asyncio import CancelledError, current_task
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Token
from typing import Any
from weakref import WeakSet

from bgadapters.adapters import (
    BackgroundTasks,
    BackgroundTasksError,
    LiveTasks,
    Runtime,
    arelease_response,
    awaits_tasks,
    check_drain_is_certain,
    closes_with_the_call,
    enter_call,
    leave,
    loop_runs_here,
    start_serving,
    task_running_here,
)
from bgadapters.asgi.failures import has_handler_outside, left_an_application
from bgadapters.asgi.files import send_file
from bgadapters.asgi.queues import LazyQueue, ResponseQueue, SocketQueue
from bgadapters.asgi_types import Message, Receive, Scope, Send

RESPONSE_KEY = "bgadapters.response"
"""Where the ASGI scope holds the `Response` being made."""


class NoResponseSent(BackgroundTasksError):  # noqa: N818  names what happened, is never raised
    """The application returned without a response, as it does when the client has left."""


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
        queue: ResponseQueue | LazyQueue | SocketQueue
        if is_socket:
            queue = SocketQueue(runtime=runtime, path=path, method=method)
        elif is_asked_for:
            queue = ResponseQueue(runtime, path, method)
        else:
            queue = LazyQueue(runtime, path, method)
        self.queue: ResponseQueue | LazyQueue | SocketQueue = queue
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
        if self._failure is None and not self.is_observed and left_an_application(exception):
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
                message = await begun(message, self)
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
                    await send_file(message["path"], self._send_part)
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
        if self.produced or not has_handler_outside(exception, scope):
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


async def begun(message: Message, response: Response) -> Message:
    """Note that a response begins; return its head as it is to be sent.

    A framework that answers every exception by itself says 500 to one that it does not know.
    """
    if response.is_refused and message["status"] == 500:
        message = {**message, "status": 503}
    response.start(message["status"])
    if response.queue.batch.unconfirmed is not None:
        await response.confirm()
    return message


def check_header(scope: Scope) -> str | None:
    """Return the header of a request by which a checker asks for its probe."""
    for name, value in scope.get("headers", ()):
        if name == b"bgadapters-check":
            return str(value, "latin-1")
    return None
