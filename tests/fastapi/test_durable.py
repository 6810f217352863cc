"""FastAPI: durable tasks are kept before the response, or a handler says that they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.testclient import TestClient

import bgadapters
from bgadapters import StoreUnavailableError, task_options
from bgadapters.adapters import Runtime
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE


@task_options(durable=True)
def note(what: str) -> None:
    durable_tasks.happened.append(what)


@pytest.fixture
def store() -> MemoryStore:
    durable_tasks.happened.clear()
    return MemoryStore()


Make = Callable[..., FastAPI]


@pytest.fixture
def make(store: MemoryStore) -> Iterator[Make]:
    """Make an application."""
    used: list[Runtime] = []

    def make() -> FastAPI:
        app = FastAPI()
        init_app(app, store=store)
        used.append(app.user_middleware[0].kwargs["runtime"])  # type: ignore[arg-type]

        @app.post("/")
        def sign_up(background_tasks: BackgroundTasks) -> str:
            background_tasks.add_task(note, "signed up")
            return "accepted"

        return app

    yield make
    store.on_call = lambda name: None
    for runtime in used:
        assert runtime.drain(PATIENCE) == []
        runtime.close()
    assert store.database.ids() == []  # whatever has run, or has failed


@pytest.fixture
def is_away(store: MemoryStore) -> None:
    def on_call(name: str) -> None:
        if name == "write" and store.calls[-1][1]:
            raise StoreUnavailableError("it is away")

    store.on_call = on_call


def test_kept_before_the_response(make: Make, store: MemoryStore) -> None:
    assert TestClient(make()).post("/").json() == "accepted"
    assert durable_tasks.happened == ["signed up"]
    assert next(call for call in store.calls if call[0] == "write")[1] == [f"{__name__}.note"]


@pytest.mark.usefixtures("is_away")
def test_503_by_default(make: Make) -> None:
    response = TestClient(make()).post("/")
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert durable_tasks.happened == []


@pytest.mark.usefixtures("is_away")
@pytest.mark.parametrize("what", [StoreUnavailableError, RuntimeError])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_answers(make: Make, what: Any, is_async: bool) -> None:
    app = make()

    def answer(request: Request, exc: Exception) -> JSONResponse:
        return JSONResponse({"sorry": str(exc), "path": request.url.path}, 429)

    async def aanswer(request: Request, exc: Exception) -> JSONResponse:
        return answer(request, exc)

    app.add_exception_handler(what, aanswer if is_async else answer)
    response = TestClient(app).post("/")
    assert response.json() == {"sorry": "it is away", "path": "/"}
    assert durable_tasks.happened == []


@pytest.mark.usefixtures("is_away")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("what", [Exception, 503])
def test_what_the_middleware_refuses_a_handler_answers(
    store: MemoryStore, what: Any, is_async: bool
) -> None:
    app = FastAPI()
    init_app(app, store=store)

    def answer(request: Request, exc: Exception) -> JSONResponse:
        return JSONResponse(str(exc), 429)

    async def aanswer(request: Request, exc: Exception) -> JSONResponse:
        return answer(request, exc)

    app.add_exception_handler(what, aanswer if is_async else answer)

    @app.post("/")
    def sign_up() -> None:
        bgadapters.add_task(note, "signed up")

    response = TestClient(app).post("/")
    assert (response.status_code, response.json()) == (429, "it is away")


@pytest.mark.usefixtures("is_away")
def test_other_applications_of_starlette_may_have_a_handler_for_503(make: Make) -> None:
    app = make()

    @app.exception_handler(503)
    def answer(request: Request, exc: HTTPException) -> JSONResponse:
        return JSONResponse("later", 503)

    assert TestClient(app).post("/").json() == "later"


def test_what_others_add_is_kept_too(make: Make, store: MemoryStore) -> None:
    app = make()
    kept: list[bool] = []

    def function_scope(background_tasks: BackgroundTasks) -> Iterator[None]:
        yield
        background_tasks.add_task(note, "dependency")

    @app.post("/dependency", dependencies=[Depends(function_scope, scope="function")])
    def with_dependency() -> None: ...

    @app.post("/stream")
    def stream(background_tasks: BackgroundTasks) -> StreamingResponse:
        def parts() -> Iterator[str]:
            kept.append(any("before" in row.payload for row in store.database.rows()))
            yield "part"
            background_tasks.add_task(note, "streamed")

        background_tasks.add_task(note, "before")
        return StreamingResponse(parts())

    client = TestClient(app)
    client.post("/dependency")
    assert client.post("/stream").text == "part"
    assert kept == [True]
    assert durable_tasks.happened == ["dependency", "before", "streamed"]


def test_below_a_middleware_that_runs_views_elsewhere(make: Make, store: MemoryStore) -> None:
    app = make()
    seen: list[int] = []

    async def dispatch(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        seen.append(response.status_code)
        return response

    app.add_middleware(BaseHTTPMiddleware, dispatch=dispatch)
    assert TestClient(app).post("/").status_code == 200

    def on_call(name: str) -> None:
        if name == "write" and store.calls[-1][1]:
            raise StoreUnavailableError("it is away")

    store.on_call = on_call
    assert TestClient(app).post("/").status_code == 503
    assert durable_tasks.happened == ["signed up"]


def test_on_a_websocket(make: Make, store: MemoryStore) -> None:
    app = make()

    @app.websocket("/live")
    async def live(websocket: WebSocket, background_tasks: BackgroundTasks) -> None:
        await websocket.accept()
        background_tasks.add_task(note, "live")
        await websocket.close()

    with TestClient(app) as client, client.websocket_connect("/live"):
        pass
    assert durable_tasks.happened == ["live"]
