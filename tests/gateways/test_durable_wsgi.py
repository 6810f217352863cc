"""WSGI: durable tasks are kept before the client can know that they were accepted."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from bgadapters import StoreUnavailableError
from bgadapters.adapters import current_queue
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE
from tests.gateways.wsgi_calls import Server, environ

HERE = ["tests.core.durable_tasks"]
HEADERS: Any = [("Content-Type", "text/plain")]


def add(what: object) -> None:
    current_queue().options(durable=True).add_task(durable_tasks.note, what)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


Serve = Callable[..., Server]
received: list[Server] = []  # what clients have


@pytest.fixture
def serve(store: MemoryStore) -> Iterator[Serve]:
    """Serve one request; return what its client has received."""
    durable_tasks.happened.clear()
    received.clear()
    made: list[BackgroundTasksMiddleware] = []

    def serve(app: Any, file_wrapper: Any = None, **settings: Any) -> Server:
        middleware = BackgroundTasksMiddleware(app, store=store, task_modules=HERE, **settings)
        made.append(middleware)
        try:
            received.append(Server())
            return received[-1].serve(middleware, environ(file_wrapper=file_wrapper))
        finally:
            assert middleware.runtime.drain(PATIENCE) == []

    yield serve
    store.on_call = lambda name: None
    for each in made:
        each.runtime.close()


def written(store: MemoryStore) -> int:
    return sum(len(call[1]) for call in store.calls if call[0] == "write")


def is_away(store: MemoryStore, after: int = 0) -> None:
    def on_call(name: str) -> None:
        if name == "write" and store.calls[-1][1] and written(store) > after:
            raise StoreUnavailableError("it is away")

    store.on_call = on_call


def in_a_list(environ: Any, start_response: Any) -> Any:
    add(1)
    start_response("202 Accepted", HEADERS)
    return [b"done"]


def in_a_generator(environ: Any, start_response: Any) -> Any:
    add(1)
    start_response("202 Accepted", HEADERS)
    yield b"done"


def by_write(environ: Any, start_response: Any) -> Any:
    add(1)
    start_response("202 Accepted", HEADERS)(b"done")
    return []


def in_a_file(environ: Any, start_response: Any) -> Any:
    add(1)
    start_response("202 Accepted", HEADERS)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"done"))


def with_nothing(environ: Any, start_response: Any) -> Any:
    add(1)
    start_response("204 No Content", [])
    return iter(())


def after_its_head(environ: Any, start_response: Any) -> Any:
    """Add a task before the first part, when the view has returned."""
    start_response("202 Accepted", HEADERS)

    def parts() -> Iterator[bytes]:
        add(1)
        yield b"done"

    return parts()


def by_write_whatever_it_raises(environ: Any, start_response: Any) -> Any:
    with contextlib.suppress(StoreUnavailableError):
        by_write(environ, start_response)
    return [b"accepted"]


APPS = [in_a_list, in_a_generator, by_write, in_a_file, with_nothing]


@pytest.mark.parametrize("hold_response", [False, True])
@pytest.mark.parametrize("app", APPS)
def test_kept_before_the_first_byte(
    serve: Serve, store: MemoryStore, app: Any, hold_response: bool
) -> None:
    kept: list[int] = []

    def write(self: Server, data: bytes) -> None:
        kept.append(written(store))
        self.received += data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "write", write)
        server = serve(app, file_wrapper=FileWrapper, hold_response=hold_response)
    assert set(kept) <= {1}
    assert server.received == (b"" if app is with_nothing else b"done")
    assert (durable_tasks.happened, store.database.ids()) == ([1], [])


@pytest.mark.parametrize("hold_response", [False, True])
@pytest.mark.parametrize("app", [*APPS, after_its_head, by_write_whatever_it_raises])
def test_a_store_that_is_away_is_503(
    serve: Serve,
    store: MemoryStore,
    caplog: pytest.LogCaptureFixture,
    app: Any,
    hold_response: bool,
) -> None:
    is_away(store)
    server = serve(app, file_wrapper=FileWrapper, hold_response=hold_response)
    assert server.status == "503 Service Unavailable"
    assert ("Retry-After", "10") in server.headers
    assert server.received == b"Service Unavailable"
    assert server.was_told is None  # of a response that is taken back, which some cannot do
    assert durable_tasks.happened == []
    assert (
        "1 background task(s) discarded, the response failed with StoreUnavailable" in caplog.text
    )
    assert "The response to / is refused" in caplog.text


def test_what_is_written_at_once_breaks_off_once_it_has_begun(
    serve: Serve, store: MemoryStore
) -> None:
    closed: list[str] = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append("closed")

    def by_write_twice(environ: Any, start_response: Any) -> Any:
        write = start_response("202 Accepted", HEADERS)
        add(1)
        write(b"part")
        add(2)
        write(b"part")

    def by_write_and_body(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)(b"part")
        add(1)
        return Body([b"part"])

    for number, app in enumerate([by_write_twice, by_write_and_body]):
        is_away(store, after=1 - number)
        store.calls.clear()
        with pytest.raises(StoreUnavailableError):
            serve(app)
    assert durable_tasks.happened == []
    assert closed == ["closed"]


@pytest.mark.parametrize("body", [[b"body"], iter([b"body"])], ids=["list", "iterator"])
def test_a_response_without_tasks_makes_no_batch(serve: Serve, body: Iterable[bytes]) -> None:
    queues: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        queues.append(environ[QUEUE_KEY])
        start_response("200 OK", HEADERS)
        return body

    assert serve(app).received == b"body"
    assert [queue.is_used for queue in queues] == [False]


def test_a_response_has_begun_when_the_call_returns(serve: Serve) -> None:
    """granian looks at once, though PEP 3333 lets an application wait for its first part."""
    begun: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)

        def parts() -> Iterator[bytes]:
            add(1)
            yield b"done"

        return parts()

    middleware = BackgroundTasksMiddleware(app, store=MemoryStore(), task_modules=HERE)
    body = middleware(environ(), lambda status, *_: begun.append(status))  # type: ignore[arg-type]
    assert begun == ["202 Accepted"]
    assert list(body) == [b"done"]
    body.close()  # type: ignore[attr-defined]
    assert middleware.runtime.drain(PATIENCE) == []
    middleware.runtime.close()


@pytest.mark.parametrize("hold_response", [False, True])
def test_a_first_part_that_raises_discards_and_closes(
    serve: Serve, store: MemoryStore, hold_response: bool
) -> None:
    closed: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            add(1)
            raise LookupError

        def close(self) -> None:
            closed.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)
        return Body()

    with pytest.raises(LookupError):
        serve(app, hold_response=hold_response)
    assert received[-1].status == ""
    assert closed == ["closed"]
    assert durable_tasks.happened == []


def test_a_response_is_begun_anew_before_its_first_part(serve: Serve, store: MemoryStore) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)
        try:
            raise KeyError
        except KeyError:
            start_response("500 Oh", HEADERS, sys.exc_info())
        yield b"part"
        try:
            raise LookupError
        except LookupError:
            start_response("500 Too Late", HEADERS, sys.exc_info())

    with pytest.raises(LookupError):
        serve(app)
    assert received[-1].status == "500 Oh"
    assert received[-1].was_told is None  # of the first one
    assert received[-1].received == b"part"


def test_a_response_is_not_begun_twice_without_a_reason(serve: Serve) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", HEADERS)
        start_response("202 Accepted", HEADERS)
        return []

    with pytest.raises(AssertionError, match="start_response was called a second time, without"):
        serve(app)


def test_what_a_body_adds_is_kept_before_its_end(serve: Serve, store: MemoryStore) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)
        yield b"part"
        assert written(store) == 0
        add(1)
        yield b"part"
        assert written(store) == 1
        add(2)

    server = serve(app)
    assert server.received == b"partpart"
    assert durable_tasks.happened == [1, 2]
    assert written(store) == 2


def test_a_stream_that_has_begun_is_broken_off(serve: Serve, store: MemoryStore) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)
        add(1)
        yield b"part"
        add(2)

    is_away(store, after=1)
    with pytest.raises(StoreUnavailableError):
        serve(app)
    assert written(store) == 2
    assert durable_tasks.happened == []


def test_the_first_body_is_closed(serve: Serve, store: MemoryStore) -> None:
    closed: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"done"])

        def close(self) -> None:
            closed.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        add(1)
        start_response("202 Accepted", HEADERS)
        return Body()

    is_away(store)
    assert serve(app).status == "503 Service Unavailable"
    assert closed == ["closed"]


def test_what_is_added_when_it_is_closed_is_kept_without_anybody_waiting(
    serve: Serve, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"done"])

        def close(self) -> None:
            add(1)

    def app(environ: Any, start_response: Any) -> Any:
        start_response("202 Accepted", HEADERS)
        return Body()

    assert serve(app).status == "202 Accepted"
    assert (durable_tasks.happened, written(store)) == ([1], 1)
    is_away(store, after=1)
    assert serve(app).status == "202 Accepted"
    assert durable_tasks.happened == [1, 1]
    assert "Durable tasks could not be kept, and run in this process alone" in caplog.text


def test_a_request_in_the_middle_of_another_has_its_own(serve: Serve, store: MemoryStore) -> None:
    inner = BackgroundTasksMiddleware(in_a_list, store=store, task_modules=HERE)

    def app(_: Any, start_response: Any) -> Any:
        add(2)
        server = Server()
        server.body = inner(environ(), server.start_response)
        assert written(store) == 1
        server.read()
        server.close()
        start_response("202 Accepted", HEADERS)
        return [server.received]

    assert serve(app).received == b"done"
    assert inner.runtime.drain(PATIENCE) == []
    assert sorted(durable_tasks.happened) == [1, 2]
    inner.runtime.close()
