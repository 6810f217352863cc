"""The dependency: one queue a request, released after the exit code of its dependencies.

FastAPI has no published hook there. A ``yield`` dependency of our own would be left
before those it was solved after, hence before their commits, and costs a request
several times as much. But FastAPI keeps its exit stacks in the scope, and theirs is a
published interface, contextlib's: so the dependency leaves callbacks on them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Annotated

from fastapi import Depends
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Scope
from starlette.websockets import WebSocketDisconnect

from bgadapters import asgi
from bgadapters.adapters import BackgroundTasks as _BackgroundTasks
from bgadapters.adapters import answer_check, default_runtime, enter, leave


async def get_background_tasks(connection: HTTPConnection) -> _BackgroundTasks:
    """Return the queue of this request. For ``Depends`` and ``dependency_overrides``."""
    scope = connection.scope
    response = asgi.open_response(scope)
    if response is None:  # no init_app, so no middleware sees to the end of the response
        response = _open_response(scope)
    view_stack = _stack(scope, "fastapi_function_astack")
    earlier = view_stack.pop_all()  # to be left before the view's response is certain
    view_stack.push_async_exit(_View(response, scope))
    view_stack.push_async_exit(earlier)
    return response.queue


BackgroundTasks = Annotated[_BackgroundTasks, Depends(get_background_tasks)]
"""Annotate a parameter of an endpoint or a dependency with this to get the request's queue."""


def _open_response(scope: Scope) -> asgi.Response:
    response = scope[asgi.RESPONSE_KEY] = asgi.Response(default_runtime(), scope["path"])
    queue = response.queue
    enter(queue)
    if queue.runtime.check_token is not None:
        answer_check(queue, asgi.check_header(scope), "fastapi")
    _stack(scope, "fastapi_middleware_astack").push_async_exit(_Request(response, scope))
    return response


class _Hook(AbstractAsyncContextManager["_Hook"]):
    """What is left on the way out of a request, in the order of the classes here."""

    __slots__ = ("_response", "_scope")

    def __init__(self, response: asgi.Response, scope: Scope) -> None:
        self._response = response
        self._scope = scope


class _View(_Hook):
    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The view has returned or raised, as have its dependencies; nothing has been sent."""
        response = self._response
        if exc is None:
            response.produced = True
            if not response.is_watched:  # a middleware holds it back by itself, and knows its end
                await response.hold()
                _stack(self._scope, "fastapi_inner_astack").push_async_exit(
                    _Sending(response, self._scope)
                )
        elif isinstance(exc, WebSocketDisconnect):  # how an endpoint ends when its client leaves
            response.produced = response.client_left = True
        else:
            response.fail(exc)


class _Sending(_Hook):
    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """The response was sent, or sending it raised; no dependency has been left."""
        self._response.client_left = isinstance(exc, ClientDisconnect) or (
            isinstance(exc, OSError) and _send_may_raise(self._scope)
        )


class _Request(_Hook):
    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        """Every dependency's exit code has run, and every exception handler."""
        leave(self._response.queue, None)
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
