"""The dependency: one queue a request, released after the exit code of its dependencies.

FastAPI has no published hook there. A ``yield`` dependency of our own would be left
before those it was solved after, hence before their commits, and costs a request
several times as much. But FastAPI keeps its exit stacks in the scope, and theirs is a
published interface, contextlib's: so the dependency leaves callbacks on them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from inspect import Parameter, Signature
from types import TracebackType
from typing import Annotated, Any

from fastapi import BackgroundTasks as FastAPIBackgroundTasks
from fastapi import Depends
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Scope

from bgadapters import asgi
from bgadapters.adapters import BackgroundTasks as _BackgroundTasks
from bgadapters.adapters import answer_check, default_runtime
from bgadapters.fastapi import attempts
from bgadapters.fastapi.telemetry import trace_tasks

_OUTERMOST = "fastapi_middleware_astack"


class _Dependency:
    """What FastAPI calls for each request that asks for its queue."""

    @property
    def __signature__(self) -> Signature:
        """What FastAPI is to give it, which is asked for when a route is made.

        Where route classes of the application's own have handlers, that is more than the request:
        each thing costs each request time.
        """
        wanted: dict[str, Any] = {"connection": HTTPConnection}
        if attempts.are_custom():
            wanted["native"] = FastAPIBackgroundTasks
            wanted["trace"] = Annotated[attempts.Trace, Depends(attempts.leave_trace)]
        return Signature(
            [Parameter(name, Parameter.KEYWORD_ONLY, annotation=of) for name, of in wanted.items()]
        )

    async def __call__(
        self,
        connection: HTTPConnection,
        native: FastAPIBackgroundTasks | None = None,
        trace: attempts.Trace | None = None,
    ) -> _BackgroundTasks:
        """Return the queue of this request. For ``Depends`` and ``dependency_overrides``.

        Args:
            connection: the request.
            native: see `attempts.Attempt`.
            trace: see `attempts.Attempt`.
        """
        scope = connection.scope
        response = asgi.open_response(scope)
        if response is None or _is_of_a_view_above(response, scope):
            response = _open_response(scope)  # no init_app, so no middleware sees to its end
        if native is not None and trace is not None and attempts.is_custom(scope):
            _note_attempt(scope, response, native, trace)
        view_stack = _stack(scope, "fastapi_function_astack")
        earlier = view_stack.pop_all()  # to be left before the view's response is certain
        view_stack.push_async_exit(_View(response, scope))
        view_stack.push_async_exit(earlier)
        return response.queue


get_background_tasks = _Dependency()
"""Returns the queue of a request. For ``Depends`` and ``dependency_overrides``."""

BackgroundTasks = Annotated[_BackgroundTasks, Depends(get_background_tasks)]
"""Annotate a parameter of an endpoint or a dependency with this to get the request's queue."""

# What FastAPI asks for in Depends(BackgroundTasks), to which it is to say what is wrong with it.
BackgroundTasks.__signature__ = Signature(  # type: ignore[attr-defined]
    [Parameter("background_tasks", Parameter.KEYWORD_ONLY, annotation=_BackgroundTasks)]
)


def _is_of_a_view_above(response: asgi.Response, scope: Scope) -> bool:
    """Whether a view has called an application with its own scope, or a copy, for a new request."""
    opener = response.opener
    return isinstance(opener, AsyncExitStack) and opener is not scope[_OUTERMOST]


def _open_response(scope: Scope) -> asgi.Response:
    stack = _stack(scope, _OUTERMOST)
    method: str | None = scope.get("method")
    is_socket = scope["type"] != "http"
    response = asgi.Response(default_runtime(), scope["path"], is_socket, method, stack, True)
    scope[asgi.RESPONSE_KEY] = response
    queue = response.queue
    if response.is_socket:  # its tasks start as they are added
        trace_tasks(scope, queue)
    if queue.runtime.check_token is not None:
        answer_check(queue, asgi.check_header(scope), "fastapi")
    stack.push_async_exit(_Request(response, scope))
    return response


def _note_attempt(
    scope: Scope,
    response: asgi.Response,
    native: FastAPIBackgroundTasks,
    trace: attempts.Trace,
) -> None:
    earlier: attempts.Attempt | None = scope.get(attempts.KEY)
    if earlier is not None:
        if earlier.is_of(native):  # asked for twice in one attempt
            return
        response.fail(attempts.AttemptFailed("the view was called again"), earlier.since)
    scope[attempts.KEY] = attempts.Attempt(native, trace, response.queue.position)


def _judge_attempt(scope: Scope, response: asgi.Response) -> None:
    attempt: attempts.Attempt = scope[attempts.KEY]
    if attempt.failed:
        why = "the route class answered its exception"
        response.fail(attempts.AttemptFailed(why), attempt.since)


class _Hook:
    """What is left on the way out of a request, in the order of the classes here."""

    __slots__ = ("_response", "_scope")

    def __init__(self, response: asgi.Response, scope: Scope) -> None:
        self._response = response
        self._scope = scope


class _View(_Hook, AbstractAsyncContextManager["_View"]):
    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The view has returned or raised, as have its dependencies; nothing has been sent."""
        response, scope = self._response, self._scope
        queue = response.queue
        trace_tasks(scope, queue)
        if exc is not None:
            response.fail(exc)
            return
        if attempts.KEY in scope:
            _judge_attempt(scope, response)
        response.answer()
        if queue.is_used and queue.batch.waiting:
            if not response.may_end:
                await response.prepare()
            _hide_pathsend(scope)
        if not response.is_watched:  # a middleware would know for certain
            stack: AsyncExitStack = scope["fastapi_inner_astack"]
            stack.push(_Sending(response, scope))


class _Sending(_Hook, AbstractContextManager["_Sending"]):
    def __exit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The response was sent, or sending it raised; no dependency has been left."""
        if exc is not None:
            self._response.client_left = isinstance(exc, ClientDisconnect) or (
                isinstance(exc, OSError) and _send_may_raise(self._scope)
            )


class _Request(_Hook, AbstractAsyncContextManager["_Request"]):
    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """Every dependency's exit code has run, and every exception handler but that of all."""
        await self._response.end(exc, self._scope)


def _hide_pathsend(scope: Scope) -> None:
    """Have Starlette send a file: a server would open it after the tasks have begun."""
    extensions = scope.get("extensions")
    if extensions and "http.response.pathsend" in extensions:
        scope["extensions"] = {k: v for k, v in extensions.items() if k != "http.response.pathsend"}


def _send_may_raise(scope: Scope) -> bool:
    """Whether the server raises OSError from ``send`` when the client has left: ASGI 2.4."""
    version: str = scope.get("asgi", {}).get("spec_version", "2.0")
    return tuple(map(int, version.split("."))) >= (2, 4)


def _stack(scope: Scope, name: str) -> AsyncExitStack:
    stack = scope.get(name)
    if not isinstance(stack, AsyncExitStack):
        raise RuntimeError(  # noqa: TRY004  the scope is at fault, not an argument
            f"bgadapters.fastapi found no {name!r} in the request's scope. Its dependency works in "
            "FastAPI applications of the supported versions; elsewhere use "
            "bgadapters.asgi.BackgroundTasksMiddleware and bgadapters.add_task."
        )
    return stack
