"""The dependency: where in a FastAPI application the queue can be asked for."""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount

import bgadapters
from bgadapters import BackgroundTasks as CoreBackgroundTasks
from bgadapters import NoResponseError, add_task
from bgadapters.fastapi import BackgroundTasks, get_background_tasks
from tests.gateways.asgi_calls import Client


def test_an_async_endpoint_gets_the_queue() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    async def view(background_tasks: BackgroundTasks) -> str:
        background_tasks.add_task(log.append, "task")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["task"]


def test_a_sync_endpoint_gets_the_queue() -> None:
    app, log = FastAPI(), list[str]()

    @app.get("/")
    def view(background_tasks: BackgroundTasks) -> str:
        background_tasks.add_task(log.append, "task")
        return "body"

    assert TestClient(app).get("/").json() == "body"
    assert log == ["task"]


def test_the_arguments_of_a_task_arrive_as_they_were_given() -> None:
    app, calls = FastAPI(), list[Any]()

    def write_notification(email: str, /, *, message: str = "", name: str = "") -> None:
        calls.append((email, message, name))

    @app.get("/{email}")
    async def view(email: str, background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(write_notification, email, message="hello", name="kept")

    TestClient(app).get("/ada@example.org")
    assert calls == [("ada@example.org", "hello", "kept")]


def test_several_uses_in_one_request_are_one_queue() -> None:
    app, log, queues = FastAPI(), list[str](), list[CoreBackgroundTasks]()

    def sync_dependency(tasks: BackgroundTasks) -> str:
        tasks.add_task(log.append, "sync dependency")
        queues.append(tasks)
        return "sync"

    async def async_dependency(
        tasks: BackgroundTasks, inner: Annotated[str, Depends(sync_dependency)]
    ) -> str:
        tasks.add_task(log.append, "async dependency")
        queues.append(tasks)
        return inner + " async"

    class Service:
        def __init__(self, tasks: BackgroundTasks) -> None:
            tasks.add_task(log.append, "class")
            queues.append(tasks)

    @app.get("/")
    async def view(
        outer: Annotated[str, Depends(async_dependency)],
        service: Annotated[Service, Depends()],
        first: BackgroundTasks,
        second: BackgroundTasks,
    ) -> str:
        first.add_task(log.append, "endpoint")
        second.add_task(log.append, "endpoint again")
        add_task(log.append, "function")
        queues.extend([first, second])
        return outer

    assert TestClient(app).get("/").json() == "sync async"
    assert len({id(queue) for queue in queues}) == 1
    assert log == [
        "sync dependency",
        "async dependency",
        "class",
        "endpoint",
        "endpoint again",
        "function",
    ]


def test_a_dependency_that_is_not_cached_still_gets_the_same_queue() -> None:
    app, queues = FastAPI(), list[CoreBackgroundTasks]()
    Fresh = Annotated[CoreBackgroundTasks, Depends(get_background_tasks, use_cache=False)]

    @app.get("/")
    async def view(first: Fresh, second: Fresh) -> None:  # pyright: ignore[reportInvalidTypeForm]
        queues.extend([first, second])

    TestClient(app).get("/")
    assert queues[0] is queues[1]


def test_yield_dependencies_get_the_queue() -> None:
    app, log = FastAPI(), list[str]()

    def sync_dependency(tasks: BackgroundTasks) -> Any:
        tasks.add_task(log.append, "sync enter")
        yield
        tasks.add_task(log.append, "sync exit")

    async def async_dependency(tasks: BackgroundTasks) -> Any:
        tasks.add_task(log.append, "async enter")
        yield
        tasks.add_task(log.append, "async exit")

    @app.get("/", dependencies=[Depends(sync_dependency), Depends(async_dependency)])
    async def view() -> None: ...

    TestClient(app).get("/")
    assert log == ["sync enter", "async enter", "async exit", "sync exit"]


def test_dependencies_of_the_application_and_of_the_path_get_the_queue() -> None:
    log: list[str] = []

    def everywhere(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "application")

    def here(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "path")

    app = FastAPI(dependencies=[Depends(everywhere)])

    @app.get("/", dependencies=[Depends(here)])
    async def view() -> None: ...

    TestClient(app).get("/")
    assert log == ["application", "path"]


def test_every_request_has_a_queue_of_its_own() -> None:
    app, queues = FastAPI(), list[CoreBackgroundTasks]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        queues.append(tasks)

    client = TestClient(app)
    client.get("/")
    client.get("/")
    assert queues[0] is not queues[1]


def test_routers_hand_out_the_queue() -> None:
    log: list[str] = []

    def of_the_router(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "router")

    inner = APIRouter(prefix="/inner")
    outer = APIRouter(prefix="/outer", dependencies=[Depends(of_the_router)])

    @inner.get("/")
    def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "endpoint")

    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/api")
    assert TestClient(app).get("/api/outer/inner/").status_code == 200
    assert log == ["router", "endpoint"]


@pytest.mark.parametrize("outer", [FastAPI, Starlette])
def test_a_mounted_application_hands_out_the_queue(outer: type[Starlette]) -> None:
    log: list[str] = []
    inner = FastAPI()

    @inner.get("/view")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")

    app = outer(routes=[Mount("/inner", inner)])
    assert TestClient(app).get("/inner/view").status_code == 200
    assert log == ["task"]


def test_the_queue_can_be_overridden() -> None:
    """As a test does that records the calls instead of running them."""
    app, log, recorded = FastAPI(), list[str](), list[Any]()

    class Recorder:
        def add_task(self, func: Any, *args: Any, **kwargs: Any) -> None:
            recorded.append((func, args, kwargs))

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "task")

    app.dependency_overrides[get_background_tasks] = Recorder
    TestClient(app).get("/")
    assert recorded == [(log.append, ("task",), {})]
    assert log == []
    app.dependency_overrides.clear()
    TestClient(app).get("/")
    assert log == ["task"]


def test_a_dependency_that_uses_the_queue_can_be_overridden_by_one_that_does() -> None:
    app, log = FastAPI(), list[str]()

    def original(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "original")

    async def override(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "override")

    @app.get("/", dependencies=[Depends(original)])
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(log.append, "endpoint")

    app.dependency_overrides[original] = override
    TestClient(app).get("/")
    assert log == ["override", "endpoint"]


def test_the_queue_is_not_in_the_schema() -> None:
    with_queue, without = FastAPI(), FastAPI()

    @with_queue.post("/{email}")
    async def view(email: str, background_tasks: BackgroundTasks) -> None: ...

    @without.post("/{email}", name="view", operation_id="view__email__post")
    async def plain(email: str) -> None: ...

    assert with_queue.openapi() == without.openapi()


def test_below_the_endpoint_add_task_needs_no_queue_at_hand() -> None:
    app, log = FastAPI(), list[str]()

    def service() -> None:
        add_task(log.append, "service")

    @app.get("/sync")
    def sync_view(tasks: BackgroundTasks) -> None:
        service()

    @app.get("/async")
    async def async_view(tasks: BackgroundTasks) -> None:
        service()

    client = TestClient(app)
    client.get("/sync")
    client.get("/async")
    assert log == ["service", "service"]


def test_without_set_up_add_task_needs_the_dependency() -> None:
    app = FastAPI()

    @app.get("/")
    async def view() -> None:
        add_task(print)

    with pytest.raises(NoResponseError, match="the BackgroundTasks dependency or init_app"):
        TestClient(app).get("/")


def test_outside_of_fastapi_the_dependency_says_what_to_use_instead() -> None:
    from starlette.routing import Route

    async def view(request: Request) -> None:
        await get_background_tasks(request)

    app = Starlette(routes=[Route("/", view)])
    with pytest.raises(RuntimeError, match=r"bgadapters\.asgi\.BackgroundTasksMiddleware"):
        TestClient(app).get("/")


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


def test_the_end_of_a_request_ends_the_reach_of_add_task() -> None:
    app = FastAPI()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None: ...

    async def main() -> None:
        await Client().request(app)
        with pytest.raises(bgadapters.NoResponseError):
            bgadapters.add_task(print)

    asyncio.run(main())


def test_the_queue_is_no_instance_of_fastapis_own_class() -> None:
    """Nor can it be asked with the name that views are annotated with; the docs say so."""
    import fastapi

    app, queues = FastAPI(), list[Any]()

    @app.get("/")
    async def view(tasks: BackgroundTasks) -> None:
        tasks.add_task(print, end="")
        queues.extend([tasks, len(tasks)])

    TestClient(app).get("/")
    queue, waiting = queues
    assert waiting == 1
    assert not isinstance(queue, fastapi.BackgroundTasks)
    with pytest.raises(TypeError, match="cannot be used with class and instance checks"):
        isinstance(queue, BackgroundTasks)  # pyright: ignore[reportArgumentType]
