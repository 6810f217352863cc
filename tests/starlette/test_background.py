"""A queue given as ``background=``, where Starlette's own would be."""

from __future__ import annotations

import asyncio

import pytest
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

import bgadapters
from bgadapters import BackgroundTasks, add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, noting
from tests.starlette.apps import get, starlette


def background(queue: BackgroundTasks) -> Response:
    """A response with our queue where Starlette's own would be."""
    return PlainTextResponse("body", background=queue)  # type: ignore[arg-type,unused-ignore]


@pytest.mark.parametrize("middleware", [True, False])
def test_a_queue_given_as_background_runs_after_the_response(middleware: bool) -> None:
    log: list[str] = []

    def fail() -> None:
        raise ValueError

    async def endpoint(request: Request) -> Response:
        tasks = BackgroundTasks()
        tasks.add_task(fail)
        tasks.add_task(log.append, "task")
        return background(tasks)

    async def main() -> None:
        client = noting(log)
        with_or_without = [Middleware(BackgroundTasksMiddleware)] if middleware else []
        await client.request(starlette(endpoint, middleware=with_or_without))
        log.append("returned")

    asyncio.run(main())
    assert log == ["sent", "task", "returned"]


def test_a_queue_given_as_background_works_beside_add_task() -> None:
    log: list[str] = []

    async def endpoint(request: Request) -> Response:
        tasks = BackgroundTasks()
        tasks.add_task(log.append, "background")
        add_task(log.append, "add_task")
        return background(tasks)

    assert get(starlette(endpoint)) == "body"
    assert sorted(log) == ["add_task", "background"]


def test_a_queue_given_as_background_is_not_cancelled_with_its_request() -> None:
    log: list[str] = []

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("finished")

        async def endpoint(request: Request) -> Response:
            tasks = BackgroundTasks()
            tasks.add_task(task)
            tasks.add_task(log.append, "next")
            return background(tasks)

        call = asyncio.ensure_future(Client().request(starlette(endpoint, middleware=[])))
        await running.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["finished", "next"]
