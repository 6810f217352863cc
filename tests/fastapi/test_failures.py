"""What fails a response, and that its tasks are discarded then; a failing task fails nothing."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

import bgadapters
from bgadapters import NoResponseError, add_task
from bgadapters.adapters import current_queue
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways.asgi_calls import Client, http_scope, others_wait
from tests.our_log import OurLog
from tests.views import add_both


def client(app: FastAPI) -> TestClient:
    """A client that gets the server's 500 where the application raises."""
    return TestClient(app, raise_server_exceptions=False)


def test_an_http_exception_discards(app: FastAPI, our_log: OurLog) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        tasks.add_task(print)
        raise HTTPException(409, "busy")

    assert client(app).get("/").json() == {"detail": "busy"}
    assert log == ["always"]
    (record,) = our_log.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "2 background task(s) discarded, the response failed with HTTPException: 409: busy: "
        "list.append, builtins.print"
    )


def test_an_http_exception_of_a_sync_endpoint_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/")
    def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        raise HTTPException(409)

    assert client(app).get("/").status_code == 409
    assert log == ["always"]


def test_an_http_exception_of_another_dependency_discards(app: FastAPI) -> None:
    log: list[str] = []

    def first(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)

    def second() -> None:
        raise HTTPException(401)

    @app.get("/", dependencies=[Depends(first), Depends(second)])
    async def view() -> None: ...

    assert client(app).get("/").status_code == 401
    assert log == ["always"]


def test_a_returned_error_runs_the_tasks(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        tasks.add_task(log.append, "task")
        return JSONResponse({}, status_code=503)

    assert client(app).get("/").status_code == 503
    assert log == ["task"]


def test_an_invalid_request_discards_what_its_dependencies_added(app: FastAPI) -> None:
    log: list[str] = []

    def audit(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)

    @app.get("/", dependencies=[Depends(audit)])
    async def view(number: Annotated[int, Query()]) -> None: ...

    assert client(app).get("/?number=x").status_code == 422
    assert log == ["always"]


def test_an_invalid_return_value_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/", response_model=int)
    async def view(tasks: BackgroundTasks) -> Any:
        add_both(tasks, log)
        return "no number"

    with pytest.raises(ResponseValidationError):
        TestClient(app).get("/")
    bgadapters.drain()
    assert log == ["always"]


def test_an_unhandled_exception_discards(app: FastAPI) -> None:
    log: list[str] = []

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        raise ValueError

    assert client(app).get("/").status_code == 500
    bgadapters.drain()
    assert log == ["always"]


def test_an_exception_handler_may_add_tasks_of_its_own(app: FastAPI) -> None:
    log: list[str] = []

    @app.exception_handler(LookupError)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("handled", status_code=404)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        raise KeyError

    assert client(app).get("/").text == "handled"
    assert log == ["always", "handler"]


def test_a_sync_exception_handler_may_add_tasks_of_its_own(app: FastAPI) -> None:
    log: list[str] = []

    @app.exception_handler(RequestValidationError)
    def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("handled", status_code=400)

    def audit(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)

    @app.get("/", dependencies=[Depends(audit)])
    async def view(number: int) -> None: ...

    assert client(app).get("/?number=x").text == "handled"
    assert log == ["always", "handler"]


def test_a_handler_of_a_converted_exception_may_add_tasks_of_its_own(app: FastAPI) -> None:
    """A ``yield`` dependency turns the view's exception into another one, which is handled."""
    log: list[str] = []

    def converting() -> Iterator[None]:
        try:
            yield
        except KeyError as exc:
            raise HTTPException(404) from exc

    @app.exception_handler(HTTPException)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("handled", status_code=404)

    @app.get("/", dependencies=[Depends(converting)])
    async def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        raise KeyError

    assert client(app).get("/").text == "handled"
    assert log == ["always", "handler"]


def test_an_exception_in_the_exit_code_of_a_dependency_discards(app: FastAPI) -> None:
    """A commit that fails: the client has its 200 already, but the tasks must not run."""
    log: list[str] = []

    def session() -> Iterator[str]:
        yield "session"
        raise ConnectionError("commit failed")

    @app.get("/")
    async def view(db: Annotated[str, Depends(session)], tasks: BackgroundTasks) -> str:
        add_both(tasks, log)
        return "body"

    async def main() -> None:
        browser = Client()
        with pytest.raises(ConnectionError, match="commit failed"):
            await browser.request(app)
        assert (browser.status, browser.body) == (200, b'"body"')
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


@pytest.mark.parametrize("first", ["session", "queue"])
def test_an_exception_in_the_exit_code_before_the_response_discards(
    app: FastAPI, first: str
) -> None:
    """A dependency of scope "function" ends before the response and can still change it."""
    log: list[str] = []

    def session() -> Iterator[str]:
        yield "session"
        raise HTTPException(409)

    Session = Annotated[str, Depends(session, scope="function")]

    if first == "session":

        @app.get("/")
        async def session_first(db: Session, tasks: BackgroundTasks) -> None:  # pyright: ignore[reportInvalidTypeForm]
            add_both(tasks, log)

    else:

        @app.get("/")
        async def queue_first(tasks: BackgroundTasks, db: Session) -> None:  # pyright: ignore[reportInvalidTypeForm]
            add_both(tasks, log)

    assert client(app).get("/").status_code == 409
    assert log == ["always"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_stream_that_breaks_off_discards(app: FastAPI, kind: str) -> None:
    log: list[str] = []

    def stream() -> Iterator[bytes]:
        yield b"bo"
        raise ValueError("half way")

    async def astream() -> AsyncIterator[bytes]:
        yield b"bo"
        raise ValueError("half way")

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        add_both(tasks, log)
        return StreamingResponse(stream() if kind == "sync" else astream())

    async def main() -> None:
        with pytest.raises(ValueError, match="half way"):
            await Client().request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_a_stream_that_breaks_off_with_an_os_error_discards(app: FastAPI) -> None:
    """Servers before ASGI 2.4 raise none from ``send``: it is the stream's own."""
    log: list[str] = []

    async def stream() -> AsyncIterator[bytes]:
        yield b"bo"
        raise FileNotFoundError

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        add_both(tasks, log)
        return StreamingResponse(stream())

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await Client().request(app, http_scope(spec_version="2.3"))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_with_init_app_an_os_error_of_a_stream_is_told_from_a_client_that_left() -> None:
    """Starlette makes a ClientDisconnect of both; the middleware saw that no ``send`` failed."""
    app, log = FastAPI(), list[str]()
    init_app(app)

    async def stream() -> AsyncIterator[bytes]:
        yield b"bo"
        raise FileNotFoundError

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        add_both(tasks, log)
        return StreamingResponse(stream())

    async def main() -> None:
        with pytest.raises(ClientDisconnect):
            await Client().request(app, http_scope(spec_version="2.4"))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_add_task_without_the_dependency_is_discarded_alike() -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.get("/handled")
    async def handled() -> None:
        add_task(log.append, "discarded")
        raise HTTPException(409)

    @app.get("/unhandled")
    def unhandled() -> None:
        add_task(log.append, "discarded")
        raise ValueError

    assert client(app).get("/handled").status_code == 409
    assert client(app).get("/unhandled").status_code == 500
    bgadapters.drain()
    assert log == []


def test_without_the_dependency_a_handler_may_add_tasks_of_its_own(
    our_log: OurLog,
) -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.exception_handler(KeyError)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("handled", status_code=404)

    @app.get("/")
    async def view() -> None:
        add_task(log.append, "view")
        raise KeyError

    assert client(app).get("/").text == "handled"
    assert log == ["handler"]
    (record,) = [r for r in our_log.records if r.name == "bgadapters"]
    assert record.getMessage().startswith("1 background task(s) discarded")


def test_without_the_dependency_the_tasks_of_a_sync_handler_are_discarded_too() -> None:
    """A limit: in its thread nothing tells it from a sync view. ``always=True`` keeps them."""
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.exception_handler(KeyError)
    def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "discarded")
        current_queue().options(always=True).add_task(log.append, "always")
        return PlainTextResponse("handled", status_code=404)

    @app.get("/")
    async def view() -> None:
        raise KeyError

    assert client(app).get("/").text == "handled"
    assert log == ["always"]


def test_a_returned_response_runs_its_tasks_though_an_exception_was_handled_in_the_view() -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> Response:
        try:
            tasks.add_task(log.append, "before")
            raise KeyError
        except KeyError:
            tasks.add_task(log.append, "after")
            return PlainTextResponse("body")

    assert client(app).get("/").text == "body"
    assert log == ["before", "after"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("key", [Exception, 500])
def test_a_handler_of_any_exception_may_add_tasks_of_its_own(
    app: FastAPI, kind: str, key: Any
) -> None:
    """Starlette calls it outside of all middlewares, when the application's call has raised."""
    log: list[str] = []

    def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("sorry", status_code=500)

    async def ahandle(request: Request, exc: Exception) -> Response:
        return handle(request, exc)

    app.add_exception_handler(key, handle if kind == "sync" else ahandle)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        add_both(tasks, log)
        raise ValueError

    assert client(app).get("/").text == "sorry"
    bgadapters.drain()
    assert log == ["always", "handler"]


def test_the_tasks_of_such_a_handler_start_after_its_response(app: FastAPI) -> None:
    log: list[str] = []

    @app.exception_handler(Exception)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "task")
        return PlainTextResponse("sorry", status_code=500)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        raise ValueError("failed")

    async def serve() -> None:
        browser = Client(on_send=lambda message: log.append(message["type"]))
        with pytest.raises(ValueError, match="failed"):
            await browser.request(app)

    async def main() -> None:
        await asyncio.create_task(serve())  # as servers do
        await others_wait()
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["http.response.start", "http.response.body", "task"]


def test_the_next_request_in_the_same_asyncio_task_has_a_queue_of_its_own(app: FastAPI) -> None:
    """As on a server that serves a connection in one."""
    log: list[str] = []

    @app.exception_handler(Exception)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "handler")
        return PlainTextResponse("sorry", status_code=500)

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        raise ValueError("failed")

    @app.get("/next")
    async def next_view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "next")

    async def main() -> None:
        with pytest.raises(ValueError, match="failed"):
            await Client().request(app)
        await Client().request(app, http_scope("/next"))
        await bgadapters.adrain()
        with pytest.raises(NoResponseError):
            add_task(print)

    asyncio.run(main())
    assert sorted(log) == ["handler", "next"]


@pytest.mark.parametrize("why", ["dependency", "body"])
def test_a_request_that_is_refused_before_the_dependency_may_have_tasks_of_its_handler(
    why: str,
) -> None:
    app, log = FastAPI(), list[str]()
    init_app(app)

    def authorize(key: str = "") -> None:
        if not key:
            raise HTTPException(401)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(HTTPException)
    async def handle(request: Request, exc: Exception) -> Response:
        add_task(log.append, "audit")
        return PlainTextResponse("refused", status_code=400)

    @app.post("/", dependencies=[Depends(authorize)])
    async def view(order: dict[str, str], tasks: BackgroundTasks) -> None: ...

    headers = {"Content-Type": "application/json"}
    target, body = ("/", "{}") if why == "dependency" else ("/?key=k", "{")
    assert client(app).post(target, content=body, headers=headers).text == "refused"
    assert log == ["audit"]


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
    our_log: OurLog,
) -> None:
    app = FastAPI()

    async def fail() -> None:
        raise ValueError("failed")

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.options(name="the-name").add_task(fail)

    assert TestClient(app).get("/").status_code == 200
    (record,) = our_log.records
    assert record.getMessage() == "Background task the-name failed: ValueError: failed"
    assert record.exc_info is not None
