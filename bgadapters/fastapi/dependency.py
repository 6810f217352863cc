"""The dependency: one queue a request, released after the exit code of its dependencies."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Annotated

from fastapi import Depends
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import Scope

from bgadapters import asgi
from bgadapters.core import current
from bgadapters.core.queue import BackgroundTasks as _BackgroundTasks
from bgadapters.core.runtime import default_runtime


async def get_background_tasks(connection: HTTPConnection) -> _BackgroundTasks:
    """Return the queue of this request. For ``Depends`` and ``dependency_overrides``."""
    scope = connection.scope
    response: asgi.Response | None = scope.get(asgi.RESPONSE_KEY)
    if response is None:
        response = scope[asgi.RESPONSE_KEY] = asgi.Response(default_runtime())
        current.enter(response.queue)
        _stack(scope, "fastapi_middleware_astack").push_async_exit(_End(response).exit)
    view = _View(response)
    _stack(scope, "fastapi_function_astack").push_async_exit(view.exit)
    return response.queue


BackgroundTasks = Annotated[_BackgroundTasks, Depends(get_background_tasks)]
"""Annotate a parameter of an endpoint or a dependency with this to get the request's queue."""


def _stack(scope: Scope, name: str) -> AsyncExitStack:
    """Return an exit stack that FastAPI keeps in the scope.

    A ``yield`` dependency of our own would be left before those it was solved
    after, hence before their commits; and it costs a request several times as much.
    """
    stack = scope.get(name)
    if not isinstance(stack, AsyncExitStack):
        raise RuntimeError(  # noqa: TRY004  the scope is at fault, not an argument
            f"bgadapters.fastapi found no {name!r} in the request's scope. Its dependency works in "
            "FastAPI applications of the supported versions; elsewhere use "
            "bgadapters.asgi.BackgroundTasksMiddleware and bgadapters.add_task."
        )
    return stack


class _View:
    """Left when the view has returned or raised, before anything of a response is sent."""

    __slots__ = ("_response",)

    def __init__(self, response: asgi.Response) -> None:
        self._response = response

    async def exit(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        if exc is not None:
            self._response.fail(exc)
        else:
            self._response.produced = True
            await self._response.hold()


class _End:
    """Left when the response was sent and every dependency's exit code has run."""

    __slots__ = ("_response",)

    def __init__(self, response: asgi.Response) -> None:
        self._response = response

    async def exit(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        current.leave(self._response.queue, None)
        self._response.client_left = isinstance(exc, ClientDisconnect)
        await self._response.end(exc)
