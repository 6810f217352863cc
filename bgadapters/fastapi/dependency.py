"""The dependency: one queue a request, released after the exit code of its dependencies.

FastAPI has no published hook there. A ``yield`` dependency of our own would be left
before those it was solved after, hence before their commits, and costs a request
several times as much. But FastAPI keeps its exit stacks in the scope, and theirs is a
published interface, contextlib's: so the dependency leaves callbacks on them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Annotated

from fastapi import Depends
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect

from bgadapters import asgi
from bgadapters.core import current
from bgadapters.core.queue import BackgroundTasks as _BackgroundTasks
from bgadapters.core.runtime import default_runtime


async def get_background_tasks(connection: HTTPConnection) -> _BackgroundTasks:
    """Return the queue of this request. For ``Depends`` and ``dependency_overrides``."""
    scope = connection.scope
    response = asgi.open_response(scope)
    if response is None:  # no init_app, so no middleware sees to the end of the response
        response = scope[asgi.RESPONSE_KEY] = asgi.Response(default_runtime(), scope["path"])
        current.enter(response.queue)
        if response.queue.runtime.probe is not None:
            response.queue.runtime.probe(response.queue, asgi.check_header(scope), "fastapi")
        _stack(scope, "fastapi_middleware_astack").push_async_exit(_Hooks(response, scope).ended)
    view_stack = _stack(scope, "fastapi_function_astack")
    earlier = view_stack.pop_all()  # to be left before the view's response is certain
    view_stack.push_async_exit(_Hooks(response, scope).viewed)
    await view_stack.enter_async_context(earlier)
    return response.queue


BackgroundTasks = Annotated[_BackgroundTasks, Depends(get_background_tasks)]
"""Annotate a parameter of an endpoint or a dependency with this to get the request's queue."""


class _Hooks:
    """What is called on the way out of a request, in the order of the methods here."""

    __slots__ = ("_response", "_scope")

    def __init__(self, response: asgi.Response, scope: Scope) -> None:
        self._response = response
        self._scope = scope

    async def viewed(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The view has returned or raised, as have its dependencies; nothing has been sent."""
        if isinstance(exc, WebSocketDisconnect):  # how an endpoint ends when its client leaves
            self._response.produced = self._response.client_left = True
            return
        if exc is not None:
            self._response.fail(exc)
            return
        self._response.produced = True
        await self._response.hold()
        _stack(self._scope, "fastapi_inner_astack").push(self.sent)

    def sent(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The response was sent, or sending it raised; no dependency has been left."""
        if self._response.is_watched:
            return  # the middleware knows for certain
        if isinstance(exc, ClientDisconnect) or (
            isinstance(exc, OSError) and _send_may_raise(self._scope)
        ):
            self._response.client_left = True

    async def ended(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """Every dependency's exit code has run, and every exception handler."""
        current.leave(self._response.queue, None)
        await self._response.end(exc)


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
