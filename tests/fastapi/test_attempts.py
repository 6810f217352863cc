"""What calls a view more than once, or goes on while an exception is handled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Receive, Scope, Send

import bgadapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks, get_background_tasks, init_app

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


@pytest.fixture(params=["by itself", "with init_app"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application, with and without set-up."""
    made = FastAPI()
    if request.param == "with init_app":
        init_app(made)
    return made


def get(app: FastAPI) -> Any:
    """Get the one page and let its tasks finish."""
    response = TestClient(app, raise_server_exceptions=False).get("/")
    bgadapters.drain()
    return response


class Deadlock(Exception):
    """What is worth another attempt."""


class Retrying(APIRoute):
    """Calls the view again, outside of the ``except`` block."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            for _ in range(3):
                try:
                    return await original(request)
                except Deadlock:
                    continue
            raise LookupError

        return handler


class RetryingInside(APIRoute):
    """Calls the view again while it handles the exception."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await original(request)
            except Deadlock:
                return await original(request)

        return handler


class Answering(APIRoute):
    """Answers the view's exception by itself."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await original(request)
            except Deadlock as exc:
                return JSONResponse({"error": repr(exc)}, 400)

        return handler


class Logging(APIRoute):
    """Gives the view's response a background of its own."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await original(request)
            response.background = BackgroundTask(str)
            return response

        return handler


class Replacing(APIRoute):
    """Makes another response of the view's."""

    def get_route_handler(self) -> Handler:
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await original(request)
            return PlainTextResponse(bytes(response.body))

        return handler


def routed(
    app: FastAPI, route_class: type[APIRoute], view: Callable[..., Any], *needs: Any
) -> FastAPI:
    """Put a view into an application by a route class of its own."""
    router = APIRouter(route_class=route_class, dependencies=needs)
    router.add_api_route("/", view)
    app.include_router(router)
    return app


@pytest.mark.parametrize("route_class", [Retrying, RetryingInside])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_tasks_of_the_last_attempt_of_a_route_run(
    app: FastAPI, route_class: type[APIRoute], kind: str
) -> None:
    attempts, log = list[int](), list[str]()

    def view(tasks: BackgroundTasks) -> None:
        attempts.append(1)
        tasks.add_task(log.append, f"attempt {len(attempts)}")
        tasks.options(always=True).add_task(log.append, f"always {len(attempts)}")
        if len(attempts) == 1:
            raise Deadlock

    async def aview(tasks: BackgroundTasks) -> None:
        view(tasks)

    routed(app, route_class, view if kind == "sync" else aview)
    assert get(app).status_code == 200
    assert log == ["always 1", "attempt 2", "always 2"]


def test_a_task_that_was_there_before_the_first_attempt_stays() -> None:
    app, attempts, log = FastAPI(), list[int](), list[str]()

    @app.middleware("http")
    async def adding(request: Request, call_next: Callable[..., Awaitable[Response]]) -> Response:
        add_task(log.append, "middleware")
        return await call_next(request)

    init_app(app)

    async def view(tasks: BackgroundTasks) -> None:
        attempts.append(1)
        tasks.add_task(log.append, f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise Deadlock

    routed(app, Retrying, view)
    assert get(app).status_code == 200
    assert log == ["middleware", "attempt 2"]


def test_a_dependency_that_is_asked_for_twice_is_one_attempt(app: FastAPI) -> None:
    log: list[str] = []

    def first(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "first")

    async def view(
        tasks: Annotated[Any, Depends(get_background_tasks, use_cache=False)],
    ) -> None:
        tasks.add_task(log.append, "second")

    routed(app, Retrying, view, Depends(first))
    assert get(app).status_code == 200
    assert log == ["first", "second"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_exception_that_a_route_answers_discards(app: FastAPI, kind: str) -> None:
    log: list[str] = []

    def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "discarded")
        tasks.options(always=True).add_task(log.append, "always")
        raise Deadlock

    async def aview(tasks: BackgroundTasks) -> None:
        view(tasks)

    routed(app, Answering, view if kind == "sync" else aview)
    assert get(app).status_code == 400
    assert log == ["always"]


@pytest.mark.parametrize("route_class", [Answering, Retrying, Logging, Replacing])
@pytest.mark.parametrize("returns", ["a value", "a response"])
def test_a_view_that_returns_runs_its_tasks_whatever_its_route_makes_of_it(
    app: FastAPI, route_class: type[APIRoute], returns: str
) -> None:
    log: list[str] = []

    async def view(tasks: BackgroundTasks) -> Any:
        tasks.add_task(log.append, "task")
        return "body" if returns == "a value" else PlainTextResponse("body", 404)

    assert "body" in get(routed(app, route_class, view)).text
    assert log == ["task"]


class Catching:
    """A plain ASGI middleware that goes on with the application while it handles an exception.

    Its own, as for what is not in a cache, or one of the application's, which it calls again.
    """

    def __init__(self, app: ASGIApp, calls_twice: bool) -> None:
        self.app = app
        self.calls_twice = calls_twice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if not self.calls_twice:
                self.look_up(scope)
            await self.app(scope, receive, send)
        except (KeyError, Deadlock):
            await self.app(scope, receive, send)

    def look_up(self, scope: Scope) -> None:
        raise KeyError


@pytest.mark.parametrize("order", ["by itself", "init_app inside", "init_app outside"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("asks", ["asks", "add_task"])
def test_a_view_called_while_a_middleware_handles_an_exception_runs_its_tasks(
    order: str, kind: str, asks: str
) -> None:
    if (order, asks) == ("by itself", "add_task"):
        return  # there is no queue
    app, log = FastAPI(), list[str]()

    def view() -> None:
        add_task(log.append, "task")

    async def aview() -> None:
        view()

    def asking(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")

    async def aasking(tasks: BackgroundTasks) -> None:
        asking(tasks)

    views: dict[str, tuple[Callable[..., Any], ...]]
    views = {"asks": (asking, aasking), "add_task": (view, aview)}
    app.add_api_route("/", views[asks][kind == "async"])
    _arrange(app, order, calls_twice=False)
    assert get(app).status_code == 200
    assert log == ["task"]


@pytest.mark.parametrize("order", ["by itself", "init_app inside", "init_app outside"])
@pytest.mark.parametrize("asks", ["asks", "add_task"])
def test_the_tasks_of_the_last_call_of_a_middleware_run(order: str, asks: str) -> None:
    if (order, asks) == ("by itself", "add_task"):
        return  # there is no queue
    app, attempts, log = FastAPI(), list[int](), list[str]()

    def view() -> None:
        attempts.append(1)
        add_task(log.append, f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise Deadlock

    def asking(tasks: BackgroundTasks) -> None:
        view()

    app.add_api_route("/", asking if asks == "asks" else view)
    _arrange(app, order, calls_twice=True)
    assert get(app).status_code == 200
    assert log == ["attempt 2"]


def _arrange(app: FastAPI, order: str, calls_twice: bool) -> None:
    if order == "init_app inside":
        init_app(app)
    app.add_middleware(Catching, calls_twice=calls_twice)
    if order == "init_app outside":
        init_app(app)
