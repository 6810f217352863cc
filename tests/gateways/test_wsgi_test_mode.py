"""What the WSGI middleware does in a test, whose client may never close a response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import bgadapters
from bgadapters.testing import Recorder, run_tasks
from bgadapters.wsgi import BackgroundTasksMiddleware
from tests.gateways.wsgi_calls import begin, environ

ran: list[object] = []


@pytest.fixture
def tasks() -> Iterator[Recorder]:
    ran.clear()
    with run_tasks() as recorder:
        yield recorder


def chunks(*, breaks: bool = False) -> Iterator[bytes]:
    yield b"first "
    bgadapters.add_task(ran.append, "streamed")
    if breaks:
        raise OSError("broken off")
    yield b"last"


def answering(
    body: Callable[[], Iterable[bytes]], status: str = "200 OK", *headers: tuple[str, str]
) -> BackgroundTasksMiddleware:
    def app(_: Any, start_response: Any) -> Iterable[bytes]:
        bgadapters.add_task(ran.append, "added")
        start_response(status, list(headers))
        return body()

    return BackgroundTasksMiddleware(app)


LENGTH = ("content-length", "10")


@pytest.mark.parametrize(
    ("app", "method"),
    [
        (answering(lambda: [b"first ", b"last"]), "GET"),
        (answering(lambda: iter([b"first ", b"last"]), "200 OK", LENGTH), "GET"),
        (answering(lambda: iter([]), "204 No Content"), "GET"),
        (answering(lambda: iter([]), "304 Not Modified"), "GET"),
        (answering(lambda: iter([])), "HEAD"),
    ],
    ids=["sized", "length", "204", "304", "HEAD"],
)
def test_a_body_of_known_length_is_closed_at_once(tasks: Recorder, app: Any, method: str) -> None:
    exchange = begin(app, environ(method, "/known"))
    assert ran == ["added"]
    exchange.read()
    exchange.body.close()  # type: ignore[attr-defined]  # as PEP 3333 asks
    exchange.close()
    assert isinstance(exchange.body, list)
    assert exchange.received in {b"first last", b""}
    assert tasks.assert_added_once(ran.append, "added").path == "/known"


def test_a_stream_is_closed_when_it_was_read(tasks: Recorder) -> None:
    exchange = begin(answering(chunks))
    assert ran == []
    assert exchange.read() == b"first last"
    assert ran == ["added", "streamed"]
    exchange.close()
    assert len(tasks.tasks) == 2


def test_a_stream_is_closed_when_its_reader_has_enough(tasks: Recorder) -> None:
    exchange = begin(answering(chunks))
    assert next(iter(exchange.body)) == b"first "
    exchange.close()
    exchange.close()
    assert ran == ["added"]
    tasks.assert_added_once(ran.append, "added")


@pytest.mark.parametrize("headers", [(), (LENGTH,)], ids=["stream", "length"])
def test_a_broken_body_discards(tasks: Recorder, headers: Any) -> None:
    app = answering(lambda: chunks(breaks=True), "200 OK", *headers)
    with pytest.raises(OSError, match="broken off"):
        begin(app).read()
    assert ran == []
    assert [task.outcome for task in tasks.tasks] == ["discarded", "discarded"]
    with pytest.raises(bgadapters.NoResponseError):
        bgadapters.add_task(print)


def test_a_nested_middleware_leaves_it_to_the_outer_one(tasks: Recorder) -> None:
    exchange = begin(BackgroundTasksMiddleware(answering(chunks)))
    assert ran == []
    exchange.read()
    assert ran == ["added", "streamed"]
    assert len(tasks.tasks) == 2


def test_a_coroutine_sees_that_tasks_have_run(tasks: Recorder) -> None:
    async def main() -> None:
        begin(answering(lambda: [b""]))
        assert ran == ["added"]

    asyncio.run(main())
    tasks.assert_added_once(ran.append, "added")
