"""When tasks run: after the last byte and after the request's dependencies; and what returns."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi import Response as FastAPIResponse
from fastapi.exceptions import FastAPIError
from fastapi.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from fastapi.testclient import TestClient
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.requests import ClientDisconnect

import bgadapters
from bgadapters.fastapi import BackgroundTasks
from tests.gateways.asgi_calls import Client, http_scope, is_last


async def request(app: FastAPI, log: list[str], scope: dict[str, Any] | None = None) -> Client:
    """Make a request that notes in ``log`` when its last byte was sent."""
    client = Client(on_send=lambda message: log.append("sent") if is_last(message) else None)
    await client.request(app, scope)
    return client


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tasks_start_after_the_last_byte_and_the_commit(kind: str) -> None:
    app, log = FastAPI(), list[str]()

    def sync_session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    async def async_session() -> AsyncIterator[str]:
        yield "session"
        log.append("commit")

    session = sync_session if kind == "sync" else async_session

    @app.get("/")
    async def view(db: Annotated[str, Depends(session)], tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "task")
        return db

    asyncio.run(request(app, log))
    assert log == ["sent", "commit", "task"]


@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("first", ["session", "queue"])
def test_tasks_start_after_the_commit_whichever_dependency_came_first(
    first: str, scope: Any
) -> None:
    app, log = FastAPI(), list[str]()

    def session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    Session = Annotated[str, Depends(session, scope=scope)]

    if first == "session":

        @app.get("/")
        async def session_first(db: Session, tasks: BackgroundTasks) -> None:  # pyright: ignore[reportInvalidTypeForm]
            tasks.add_task(log.append, "task")

    else:

        @app.get("/")
        async def queue_first(tasks: BackgroundTasks, db: Session) -> None:  # pyright: ignore[reportInvalidTypeForm]
            tasks.add_task(log.append, "task")

    TestClient(app).get("/")
    assert log == ["commit", "task"]


def test_a_dependency_that_itself_uses_the_queue_commits_before_the_tasks() -> None:
    app, log = FastAPI(), list[str]()

    def session(tasks: BackgroundTasks) -> Iterator[str]:
        tasks.add_task(log.append, "task")
        yield "session"
        log.append("commit")

    @app.get("/", dependencies=[Depends(session)])
    async def view() -> None: ...

    TestClient(app).get("/")
    assert log == ["commit", "task"]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_failing_task_never_reaches_the_dependencies(error: type[BaseException]) -> None:
    """With FastAPI's own tasks, it would roll the session back after its 200."""
    app, log = FastAPI(), list[str]()

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        except BaseException as exc:
            log.append(f"rollback for {exc!r}")
            raise
        log.append("commit")

    def fail() -> None:
        log.append("fail")
        raise error("failed")

    @app.get("/", dependencies=[Depends(session)])
    async def view(tasks: BackgroundTasks) -> str:
        tasks.add_task(fail)
        tasks.add_task(log.append, "next")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["commit", "fail", "next"]


def test_a_failing_task_is_logged_by_name_and_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = FastAPI()

    async def fail() -> None:
        raise ValueError("failed")

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.options(name="the-name").add_task(fail)

    assert TestClient(app).get("/").status_code == 200
    (record,) = [r for r in caplog.records if r.name == "bgadapters"]
    assert record.getMessage() == "Background task the-name failed: ValueError: failed"
    assert record.exc_info is not None


def test_async_tasks_run_on_the_servers_own_loop() -> None:
    app, loops = FastAPI(), list[object]()

    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        loops.append(asyncio.get_running_loop())
        tasks.add_task(note)

    TestClient(app).get("/")
    assert loops[0] is loops[1]


def test_a_returned_response_with_its_own_background_loses_nothing() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/task")
    async def with_task(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "ours")
        return PlainTextResponse("body", background=BackgroundTask(log.append, "own"))

    @app.get("/tasks")
    async def with_tasks(tasks: BackgroundTasks) -> FastAPIResponse:
        own = StarletteBackgroundTasks()
        own.add_task(log.append, "own")
        tasks.add_task(log.append, "ours")
        return PlainTextResponse("body", background=own)

    client = TestClient(app)
    assert client.get("/task").text == "body"
    assert sorted(log) == ["ours", "own"]
    log.clear()
    assert client.get("/tasks").text == "body"
    assert sorted(log) == ["ours", "own"]


def test_fastapis_own_background_tasks_run_beside_ours() -> None:
    import fastapi

    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(own: fastapi.BackgroundTasks, tasks: BackgroundTasks) -> None:
        own.add_task(log.append, "own")
        tasks.add_task(log.append, "ours")

    TestClient(app).get("/")
    assert log == ["own", "ours"]


def test_a_queue_made_by_the_view_is_a_valid_background() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/core")
    async def core() -> FastAPIResponse:
        made = bgadapters.BackgroundTasks()
        made.add_task(log.append, "core")
        return PlainTextResponse("body", background=made)  # type: ignore[arg-type,unused-ignore]

    @app.get("/alias")
    async def alias() -> FastAPIResponse:
        made = BackgroundTasks()  # pyright: ignore[reportCallIssue]
        made.add_task(log.append, "alias")
        return PlainTextResponse("body", background=made)  # type: ignore[arg-type,unused-ignore]

    client = TestClient(app)
    client.get("/core")
    client.get("/alias")
    assert log == ["core", "alias"]


def test_the_queue_given_back_as_background_runs_its_tasks_once() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "task")
        return PlainTextResponse("body", background=tasks)  # type: ignore[arg-type,unused-ignore]

    assert TestClient(app).get("/").text == "body"
    assert log == ["task"]


def test_the_queue_given_back_as_background_still_waits_for_the_commit() -> None:
    app, log = FastAPI(), list[str]()

    def session() -> Iterator[str]:
        yield "session"
        log.append("commit")

    @app.get("/", dependencies=[Depends(session)])
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        tasks.add_task(log.append, "task")
        return PlainTextResponse("body", background=tasks)  # type: ignore[arg-type,unused-ignore]

    TestClient(app).get("/")
    assert log == ["commit", "task"]


def test_every_kind_of_response_is_whole_and_runs_its_tasks(tmp_path: Path) -> None:
    app, log = FastAPI(), list[str]()
    file = tmp_path / "file.txt"
    file.write_text("body")

    async def stream() -> AsyncIterator[str]:
        yield "bo"
        yield "dy"

    responses: dict[str, Any] = {
        "json": lambda: "body",
        "response": lambda: PlainTextResponse("body"),
        "file": lambda: FileResponse(file),
        "stream": lambda: StreamingResponse(stream()),
        "redirect": lambda: RedirectResponse("/json"),
        "empty": lambda: FastAPIResponse(status_code=204),
        "not-modified": lambda: FastAPIResponse(status_code=304),
        "error": lambda: JSONResponse("body", status_code=500),
    }

    @app.api_route("/{kind}", methods=["GET", "HEAD"])
    async def view(kind: str, tasks: BackgroundTasks) -> Any:
        tasks.add_task(log.append, f"task of {kind}")
        return responses[kind]()

    expected = {
        "json": (200, '"body"'),
        "response": (200, "body"),
        "file": (200, "body"),
        "stream": (200, "body"),
        "redirect": (307, ""),
        "empty": (204, ""),
        "not-modified": (304, ""),
        "error": (500, '"body"'),
    }
    client = TestClient(app, follow_redirects=False)
    got = {}
    for kind in responses:
        answer = client.get(f"/{kind}")
        got[kind] = answer.status_code, answer.text
        assert log == [f"task of {kind}"]
        assert client.head(f"/{kind}").status_code == expected[kind][0]
        assert log == [f"task of {kind}"] * 2
        log.clear()
    assert got == expected


def test_a_stream_is_sent_before_its_tasks_start() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            tasks.add_task(log.append, "added by the stream")
            yield b"dy"

        tasks.add_task(log.append, "task")
        return StreamingResponse(stream())

    assert asyncio.run(request(app, log)).body == b"body"
    assert log == ["sent", "task", "added by the stream"]


def test_an_endpoint_that_yields_runs_its_tasks() -> None:
    """A generator endpoint streams; what it adds half way runs too."""
    app, log = FastAPI(), list[str]()

    async def view(tasks: BackgroundTasks) -> AsyncIterator[bytes]:
        tasks.add_task(log.append, "task")
        yield b"body"

    try:
        app.get("/", response_class=StreamingResponse)(view)
    except FastAPIError:
        pytest.skip("this FastAPI is too old for endpoints that yield")
    assert TestClient(app).get("/").text == "body"
    assert log == ["task"]


def test_a_task_may_add_a_task_to_its_own_queue() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        def first() -> None:
            log.append("first")
            tasks.add_task(log.append, "third")

        tasks.add_task(first)
        tasks.add_task(log.append, "second")

    TestClient(app).get("/")
    assert log == ["first", "second", "third"]


def test_a_client_that_left_while_the_response_was_sent_cancels_no_task() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> FastAPIResponse:
        async def stream() -> AsyncIterator[bytes]:
            yield b"bo"
            yield b"dy"

        tasks.add_task(log.append, "task")
        return StreamingResponse(stream())

    def leave(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise ConnectionResetError

    async def main() -> None:
        with pytest.raises(ClientDisconnect):
            await Client(on_send=leave).request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_client_that_left_before_a_plain_response_cancels_no_task() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")

    def leave(message: Any) -> None:
        raise ConnectionResetError

    async def main() -> None:
        with pytest.raises(ConnectionResetError):
            await Client(on_send=leave).request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_request_cancelled_while_it_is_answered_runs_its_tasks() -> None:
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        started = asyncio.Event()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> FastAPIResponse:
            async def stream() -> AsyncIterator[bytes]:
                yield b"bo"
                started.set()
                await asyncio.Event().wait()

            tasks.add_task(log.append, "task")
            return StreamingResponse(stream())

        call = asyncio.ensure_future(Client().request(app))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


def test_a_request_cancelled_before_its_view_returns_discards_its_tasks() -> None:
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        started = asyncio.Event()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(log.append, "discarded")
            tasks.options(always=True).add_task(log.append, "always")
            started.set()
            await asyncio.Event().wait()

        call = asyncio.ensure_future(Client().request(app, http_scope()))
        await started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_a_full_backlog_holds_a_response_back_until_there_is_room() -> None:
    """Without set-up, responses share the 1000 places of the default runtime."""
    app, log = FastAPI(), list[str]()

    async def main() -> None:
        gate, running = asyncio.Event(), asyncio.Event()

        async def blocking() -> None:
            running.set()
            await gate.wait()

        @app.get("/")
        async def view(tasks: BackgroundTasks) -> None:
            tasks.add_task(log.append, "task")
            asyncio.get_running_loop().call_soon(gate.set)

        with bgadapters.BackgroundTasks() as filling:
            filling.add_task(blocking)
            for _ in range(998):
                filling.add_task(int)
            filling.add_task(log.append, "room")
        await running.wait()
        await request(app, log)

    asyncio.run(main())
    assert log == ["room", "sent", "task"]


def test_the_end_of_a_request_ends_the_reach_of_add_task() -> None:
    app = FastAPI()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None: ...

    async def main() -> None:
        await request(app, [])
        with pytest.raises(bgadapters.NoResponseError):
            bgadapters.add_task(print)

    asyncio.run(main())
