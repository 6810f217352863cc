"""The dependency: one queue a request, released after the exit code of its dependencies.

FastAPI has no published hook there. A ``yield`` dependency of our own would be left
before those it was solved after, hence before their commits, and costs a request
several times as much. But FastAPI keeps its exit stacks in the scope, and theirs is a
published interface, contextlib's: so the dependency leaves callbacks on them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from inspect import Parameter, Signature
from operator import attrgetter
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
from bgadapters.fastapi.telemetry import TELEMETRY, trace_tasks

_OUTERMOST = "fastapi_middleware_astack"


def _what_fills_a_stack() -> Callable[[AsyncExitStack], object] | None:
    """Return what tells by its truth whether a stack has anything on it; None if nothing does."""
    empty, other = AsyncExitStack(), AsyncExitStack()
    other.callback(bool)
    before, after = (getattr(each, "__dict__", {}) for each in (empty, other))
    found = [name for name in after if after[name] and not before.get(name, True)]
    return attrgetter(*found) if len(found) == 1 else None


# Nothing published tells whether a stack is empty. To take out nothing, and to put it back, costs a
# request as much as two further hooks.
_has_any = _what_fills_a_stack()


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
        response: asgi.Response | None = scope.get(asgi.RESPONSE_KEY)
        hooks: _Hooks | None = None
        if response is None or not response.queue.is_open or _is_of_a_view_above(response, scope):
            hooks = _open_response(scope)  # no init_app, so no middleware sees to its end
            response = hooks.response
        if native is not None and trace is not None and attempts.is_custom(scope):
            _note_attempt(scope, response, native, trace)
        stack: Any = _stack(scope, "fastapi_function_astack")
        if hooks is None:
            hooks = _Hooks(response, scope)
        hooks.stack = stack
        if _has_any is not None and not _has_any(stack):
            stack.push(hooks)
        else:
            earlier = stack.pop_all()  # to be left before the view's response is certain
            stack.push(hooks)
            stack.push_async_exit(earlier)
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


def _open_response(scope: Scope) -> _Hooks:
    stack = _stack(scope, _OUTERMOST)
    method: str | None = scope.get("method")
    is_socket = scope["type"] != "http"
    response = asgi.Response(default_runtime(), scope["path"], is_socket, method, stack, True)
    scope[asgi.RESPONSE_KEY] = response
    queue = response.queue
    if is_socket:  # its tasks start as they are added
        trace_tasks(scope, queue)
    if queue.runtime.check_token is not None:
        answer_check(queue, asgi.check_header(scope), "fastapi")
    hooks = _Hooks(response, scope)
    push: Any = stack.push_async_exit
    push(hooks)
    return hooks


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


class _Hooks:
    """What is left on the way out of a request: one object, since each would cost each request.

    The exit stacks call, in this order, `__exit__` when the view has returned or raised, `__exit__`
    once more when its response was sent, if there is one, and `__aexit__` at the end of all.

    No subclass of what contextlib has for that, whose metaclass makes an instance slow to make.

    Args:
        response: the response.
        scope: that of the request.

    Attributes:
        stack: that which is left when the view has returned.
    """

    __slots__ = ("_has_returned", "_scope", "response", "stack")

    stack: AsyncExitStack

    def __init__(self, response: asgi.Response, scope: Scope) -> None:
        self.response = response
        self._scope = scope
        self._has_returned = False

    def __exit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        response, scope = self.response, self._scope
        if self._has_returned:
            if exc is not None:
                self._note_what_sending_raised(exc)
            return
        # The view has returned or raised, as have its dependencies; nothing has been sent.
        queue = response.queue
        if TELEMETRY in scope:
            trace_tasks(scope, queue)
        if exc is not None:
            response.fail(exc)
            return
        self._has_returned = True
        if attempts.KEY in scope:
            _judge_attempt(scope, response)
        response.answer()
        batch = queue.batch if queue.is_used else None
        if batch is not None and batch.waiting:
            if scope.get("extensions"):
                _hide_pathsend(scope)
            if batch.unconfirmed is not None or not queue.take_capacity():
                # A stack that is being left goes on with what is pushed now.
                self.stack.push_async_callback(self._prepare)
                return
        if not response.is_watched:  # a middleware would know for certain
            scope["fastapi_inner_astack"].push(self)

    async def _prepare(self) -> None:
        await self.response.prepare()
        if not self.response.is_watched:
            self._scope["fastapi_inner_astack"].push(self)

    def _note_what_sending_raised(self, exc: BaseException) -> None:
        """No dependency has been left."""
        self.response.client_left = isinstance(exc, ClientDisconnect) or (
            isinstance(exc, OSError) and _send_may_raise(self._scope)
        )

    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """Every dependency's exit code has run, and every exception handler but that of all."""
        waiting = self.response.end(exc, self._scope)
        if waiting is not None:
            await waiting


def _hide_pathsend(scope: Scope) -> None:
    """Have Starlette send a file: a server would open it after the tasks have begun."""
    extensions = scope["extensions"]
    if "http.response.pathsend" in extensions:
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
