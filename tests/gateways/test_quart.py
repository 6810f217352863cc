"""Quart, which is not Flask: served through the ASGI middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import bgadapters
from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, Lifespan, http_scope, noting, others_wait

quart = pytest.importorskip("quart")


def application(view: Callable[[], Any], **settings: Any) -> Any:
    """An application of one view, inside the middleware as Quart documents it."""
    app = quart.Quart("served")
    app.add_url_rule("/", "view", view)
    app.asgi_app = BackgroundTasksMiddleware(app.asgi_app, **settings)
    return app


def get(app: Any, client: Client | None = None) -> Client:
    """Get the page and let its tasks finish."""
    client = client or Client()

    async def main() -> None:
        await client.request(app, http_scope(headers={"Host": "testserver"}))
        await bgadapters.adrain()

    asyncio.run(main())
    return client


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tasks_run_after_the_last_byte(kind: str) -> None:
    log: list[str] = []

    async def async_task() -> None:
        log.append("async task")

    def view() -> str:
        add_task(log.append, "task")
        add_task(async_task)
        return "body"

    async def async_view() -> str:
        return view()

    app = application(view if kind == "sync" else async_view)
    client = get(app, noting(log))
    assert client.body == b"body"
    assert log == ["sent", "task", "async task"]


def test_a_stream_may_add_tasks_and_is_sent_before_them() -> None:
    log: list[str] = []

    async def view() -> Any:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            add_task(log.append, "task")
            yield b"dy"

        return stream(), 200

    app = application(view)
    client = get(app, noting(log))
    assert client.body == b"body"
    assert log == ["sent", "task"]


def test_a_returned_error_runs_its_tasks() -> None:
    log: list[str] = []

    async def view() -> Any:
        add_task(log.append, "task")
        return "sorry", 500

    assert get(application(view)).status == 500
    assert log == ["task"]


def test_tasks_finish_before_the_application_ends() -> None:
    log: list[str] = []

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        async def view() -> str:
            add_task(task)
            return "body"

        app = application(view)

        @app.after_serving  # type: ignore[untyped-decorator]
        async def close_resources() -> None:
            log.append("resources closed")

        protocol = Lifespan(app)
        assert await protocol.startup() == "lifespan.startup.complete"
        scope = http_scope(headers={"Host": "testserver"})
        request = asyncio.ensure_future(Client().request(app, scope))
        await running.wait()
        shutdown = asyncio.ensure_future(protocol.shutdown())
        await others_wait()
        gate.set()
        assert await shutdown == "lifespan.shutdown.complete"
        await request

    asyncio.run(main())
    assert log == ["task", "resources closed"]


def test_an_exception_that_nobody_handles_discards_and_its_handler_may_add_tasks() -> None:
    """Quart has a signal for it."""
    log: list[str] = []

    async def view() -> None:
        add_task(log.append, "discarded")
        raise ValueError

    app = application(view)

    @app.errorhandler(500)  # type: ignore[untyped-decorator]
    async def handle(_: Exception) -> Any:
        add_task(log.append, "handler")
        return "sorry", 500

    assert get(app).status == 500
    assert log == ["handler"]


def test_two_applications_hear_of_their_own_exceptions_alone() -> None:
    log: list[str] = []

    async def inner_view() -> None:
        raise ValueError

    inner = application(inner_view)

    async def view() -> str:
        add_task(log.append, "task")
        await Client().request(inner, http_scope(headers={"Host": "testserver"}))
        return "body"

    assert get(application(view)).status == 200
    assert log == ["task"]


def test_what_quart_makes_of_an_aborted_request_counts_as_returned() -> None:
    """A limit: it answers out of the middleware's sight, and no signal tells."""
    log: list[str] = []

    async def view() -> None:
        add_task(log.append, "task")
        quart.abort(409)

    assert get(application(view)).status == 409
    assert log == ["task"]
