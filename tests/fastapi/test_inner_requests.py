"""A view that calls its own application, in process: a request inside of a request."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.testclient import TestClient

import bgadapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways.asgi_calls import Client, http_scope


@pytest.fixture(params=["by itself", "with init_app", "with init_app and a middleware"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application, with and without set-up."""
    made = FastAPI()
    if request.param != "by itself":
        init_app(made)
    if request.param.endswith("middleware"):
        made.add_middleware(Passing)
    return made


class Passing:
    """A plain ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("how", ["new scope", "copied scope", "same scope"])
@pytest.mark.parametrize("target", ["/item", "/fails", "/nowhere"])
def test_each_request_has_a_queue_of_its_own(app: FastAPI, how: str, target: str) -> None:
    log: list[str] = []

    @app.get("/item")
    async def item(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "inner")

    @app.get("/fails")
    async def fails(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "discarded")
        raise HTTPException(409)

    @app.get("/")
    async def batch(request: Request, tasks: BackgroundTasks) -> int:
        add_task(log.append, "before")
        inner = Client()
        scope: Any = {
            "new scope": http_scope(target),
            "copied scope": dict(request.scope),
            "same scope": request.scope,
        }[how]
        scope["path"], scope["raw_path"] = target, target.encode()
        await inner.request(app, scope)
        log.append("inner request has ended")
        add_task(log.append, "after")
        tasks.add_task(log.append, "last")
        return inner.status

    response = TestClient(app).get("/")
    bgadapters.drain()
    assert response.json() == {"/item": 200, "/fails": 409, "/nowhere": 404}[target]
    inner = ["inner"] if target == "/item" else []
    assert log == [*inner, "inner request has ended", "before", "after", "last"]
