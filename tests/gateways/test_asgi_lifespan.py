"""The lifespan protocol through the ASGI middleware: tasks finish before the application ends."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from bgadapters import BackgroundTasks, add_task
from bgadapters.adapters import Runtime, Settings
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, Lifespan, others_wait
from tests.our_log import OurLog


class Application:
    """An application with a lifespan; a request to it adds one task."""

    def __init__(self, log: list[str], task: Any = None) -> None:
        self.log = log
        self.task = task

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        add_task(self.task)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def live(self, receive: Any, send: Any) -> None:
        await receive()
        self.log.append("startup")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.log.append("shutdown")
        await send({"type": "lifespan.shutdown.complete"})


def test_the_lifespan_is_passed_through() -> None:
    log: list[str] = []

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(Application(log)))
        assert await lifespan.startup() == "lifespan.startup.complete"
        assert log == ["startup"]
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"
        assert lifespan.sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(main())
    assert log == ["startup", "shutdown"]


def test_tasks_finish_before_the_application_takes_down_its_resources() -> None:
    log: list[str] = []

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        app = BackgroundTasksMiddleware(Application(log, task))
        lifespan = Lifespan(app)
        await lifespan.startup()
        request = asyncio.ensure_future(Client().request(app))
        await running.wait()
        shutdown = asyncio.ensure_future(lifespan.shutdown())
        await others_wait()
        gate.set()
        assert await shutdown == "lifespan.shutdown.complete"
        await request

    asyncio.run(main())
    assert log == ["startup", "task", "shutdown"]


def test_a_drain_that_runs_out_of_time_names_what_it_abandoned(
    our_log: OurLog,
) -> None:
    log: list[str] = []

    async def main() -> None:
        running = asyncio.Event()

        async def endless() -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")

        app = BackgroundTasksMiddleware(Application(log, endless), drain_timeout=0)
        lifespan = Lifespan(app)
        await lifespan.startup()
        request = asyncio.ensure_future(Client().request(app))
        await running.wait()
        await lifespan.shutdown()
        await request

    asyncio.run(main())
    assert log == ["startup", "cancelled", "shutdown"]
    (warning,) = our_log.warnings
    assert "1 background task(s) abandoned" in warning
    assert "endless" in warning


def test_the_deadline_is_one_for_all_that_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's queues, and those that were made by hand."""
    timeout = 1.0
    by_hand = Runtime(Settings(drain_timeout=timeout))
    monkeypatch.setattr("bgadapters.asgi_lifespan.default_runtime", lambda: by_hand)

    async def main() -> float:
        async def endless() -> None:
            await asyncio.Event().wait()

        app = BackgroundTasksMiddleware(Application([], endless), drain_timeout=timeout)
        lifespan = Lifespan(app)
        await lifespan.startup()
        calling = asyncio.create_task(Client().request(app))
        with BackgroundTasks(runtime=by_hand) as tasks:
            tasks.add_task(endless)
        await others_wait()
        started = time.monotonic()
        await lifespan.shutdown()
        took = time.monotonic() - started
        await calling
        return took

    assert timeout <= asyncio.run(main()) < 1.7 * timeout


def test_an_application_that_does_not_speak_the_protocol_is_answered_for() -> None:
    """Django raises for every scope that is not HTTP; servers take that for no lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError(f"can only handle HTTP, not {scope['type']}")

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(app))
        assert await lifespan.startup() == "lifespan.startup.complete"
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"

    asyncio.run(main())


@pytest.mark.parametrize("receives", [False, True])
def test_an_application_that_ignores_the_protocol_is_answered_for(receives: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if receives:
            await receive()

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(app))
        assert await lifespan.startup() == "lifespan.startup.complete"
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"

    asyncio.run(main())


def test_tasks_of_an_application_without_lifespan_finish_before_the_shutdown_is_answered() -> None:
    log: list[str] = []

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("task")

        async def http_only(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                raise ValueError(scope["type"])
            await Application(log, task)(scope, receive, send)

        app = BackgroundTasksMiddleware(http_only)
        lifespan = Lifespan(app)
        await lifespan.startup()
        request = asyncio.ensure_future(Client().request(app))
        await running.wait()
        shutdown = asyncio.ensure_future(lifespan.shutdown())
        shutdown.add_done_callback(lambda _: log.append("shutdown answered"))
        await others_wait()
        gate.set()
        await shutdown
        await request

    asyncio.run(main())
    assert log == ["task", "shutdown answered"]


def test_a_failed_startup_is_reported_as_failed() -> None:
    class Failing(Application):
        async def live(self, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise ConnectionError("no database")

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(Failing([])))
        assert await lifespan.startup() == "lifespan.startup.failed"
        with pytest.raises(ConnectionError, match="no database"):
            await lifespan.call
        assert lifespan.sent == ["lifespan.startup.failed"]

    asyncio.run(main())


def test_a_startup_that_raises_is_not_answered_with_success() -> None:
    class Failing(Application):
        async def live(self, receive: Any, send: Any) -> None:
            await receive()
            raise ConnectionError("no database")

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(Failing([])))
        with pytest.raises(ConnectionError, match="no database"):
            await lifespan.startup()
        assert lifespan.sent == []

    asyncio.run(main())


def test_an_application_that_fails_before_it_listens_is_not_answered_for() -> None:
    """The server is to decide: uvicorn with ``--lifespan on`` does not start then."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path"]

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(app))
        with pytest.raises(KeyError, match="path"):
            await lifespan.startup()
        assert lifespan.sent == []

    asyncio.run(main())


def test_an_application_that_asserts_that_it_serves_http_alone_is_answered_for() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    async def main() -> None:
        lifespan = Lifespan(BackgroundTasksMiddleware(app))
        assert await lifespan.startup() == "lifespan.startup.complete"
        assert await lifespan.shutdown() == "lifespan.shutdown.complete"

    asyncio.run(main())


def test_without_asyncio_the_application_shuts_down() -> None:
    """As under trio: tasks need asyncio, but an application that has none of them does not."""
    log: list[str] = []
    to_app = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return to_app.pop(0)

    async def send(message: Any) -> None:
        log.append(message["type"])

    call = BackgroundTasksMiddleware(Application(log))({"type": "lifespan"}, receive, send)
    with pytest.raises(StopIteration):  # it has returned, and waited for nothing
        call.send(None)
    assert log == ["startup", "lifespan.startup.complete", "shutdown", "lifespan.shutdown.complete"]


def test_under_trio_what_runs_in_threads_is_waited_for() -> None:
    trio = pytest.importorskip("trio")

    log: list[str] = []
    runtime = Runtime()
    gate = threading.Event()

    def task() -> None:
        gate.wait(10)
        log.append("task")

    def add() -> None:
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(task)

    async def main() -> None:
        to_app = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

        async def receive() -> Any:
            message = to_app.pop(0)
            if not to_app:
                await trio.to_thread.run_sync(add)
                gate.set()
            return message

        async def send(message: Any) -> None: ...

        app = BackgroundTasksMiddleware(Application(log), runtime=runtime)
        await app({"type": "lifespan"}, receive, send)

    trio.run(main)
    assert log == ["startup", "task", "shutdown"]


def test_a_task_may_start_and_end_its_own_application(our_log: OurLog) -> None:
    """As test clients do. It cannot wait there for all tasks: it is one of them."""
    log: list[str] = []
    app = BackgroundTasksMiddleware(Application(log))

    async def task() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        log.append(await lifespan.shutdown())

    async def main() -> None:
        async with BackgroundTasks(runtime=app.runtime) as tasks:
            tasks.add_task(task)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert log[-1] == "lifespan.shutdown.complete"
    assert our_log.messages == []
