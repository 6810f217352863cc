"""Under and over ``BaseHTTPMiddleware``."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import bgadapters
from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.starlette.apps import Passing, get, starlette


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 1, 0]])
def test_under_and_over_base_http_middleware_tasks_run(order: list[int]) -> None:
    log: list[str] = []
    both = [Middleware(BackgroundTasksMiddleware), Middleware(Passing)]

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "task")
        return PlainTextResponse("body")

    assert get(starlette(endpoint, middleware=[both[i] for i in order])) == "body"
    assert log == ["task"]


@pytest.mark.parametrize(
    "order",
    [
        [1, 0],
        [0, 1, 0],
        pytest.param(
            [0, 1],
            marks=pytest.mark.xfail(
                strict=True,
                reason="the exception is handled in another asyncio task, out of the "
                "middleware's sight",
            ),
        ),
    ],
)
def test_under_and_over_base_http_middleware_an_http_exception_discards(order: list[int]) -> None:
    log: list[str] = []
    both = [Middleware(BackgroundTasksMiddleware), Middleware(Passing)]

    async def endpoint(request: Request) -> Response:
        add_task(log.append, "discarded")
        raise HTTPException(409)

    get(starlette(endpoint, middleware=[both[i] for i in order]))
    bgadapters.drain()
    assert log == []
