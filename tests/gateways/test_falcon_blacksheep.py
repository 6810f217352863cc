"""Falcon and BlackSheep, which answer exceptions by themselves and have hooks that tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import bgadapters
from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, Lifespan, http_scope


def falcon_application(view: Callable[[], object]) -> Any:
    falcon = pytest.importorskip("falcon.asgi")

    class Resource:
        async def on_get(self, req: Any, resp: Any) -> None:
            view()

    async def handle(req: Any, resp: Any, ex: Any, params: Any) -> None:
        resp.status = 404

    app = falcon.App()
    app.add_route("/", Resource())
    app.add_error_handler(KeyError, handle)
    return app


def blacksheep_application(view: Callable[[], object]) -> Any:
    blacksheep = pytest.importorskip("blacksheep")
    pytest.importorskip("blacksheep.server.routing")
    app = blacksheep.Application(router=blacksheep.server.routing.Router())  # not the shared one

    @app.router.get("/")  # type: ignore[untyped-decorator]
    async def root() -> Any:
        view()
        return blacksheep.text("body")

    @app.exception_handler(KeyError)  # type: ignore[untyped-decorator]
    async def handle(self: Any, request: Any, exc: Any) -> Any:
        return blacksheep.text("handled", 404)

    return app


@pytest.mark.parametrize("make", [falcon_application, blacksheep_application])
@pytest.mark.parametrize(
    ("exception", "status"), [(None, 200), (KeyError(), 404), (ValueError(), 500)]
)
def test_an_exception_that_is_answered_discards(
    make: Callable[[Callable[[], object]], Any], exception: Exception | None, status: int
) -> None:
    log: list[str] = []

    def view() -> None:
        add_task(log.append, "task")
        if exception is not None:
            raise exception

    async def main() -> int:
        app = BackgroundTasksMiddleware(make(view))
        lifespan, client = Lifespan(app), Client()
        await lifespan.startup()
        await client.request(app, http_scope(headers={"Host": "testserver"}))
        await lifespan.shutdown()
        return client.status

    assert asyncio.run(main()) == status
    bgadapters.drain()
    assert log == (["task"] if exception is None else [])
