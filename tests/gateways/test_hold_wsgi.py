"""With ``hold_response`` a WSGI response ends when its tasks have run."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

import bgadapters
from bgadapters import Retry, add_task
from bgadapters.adapters import current_queue
from bgadapters.wsgi import BackgroundTasksMiddleware
from tests.gateways.wsgi_calls import begin, environ, serve
from tests.our_log import OurLog

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log: list[str] = []
LENGTH = [("Content-Length", "4")]


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    log.clear()


async def atask() -> None:
    await asyncio.sleep(0)
    log.append("async")


def holding(
    body: Callable[[], Iterable[bytes]], headers: list[tuple[str, str]], **settings: Any
) -> BackgroundTasksMiddleware:
    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "plain")
        add_task(atask)
        write = start_response("200 OK", headers)
        if env["PATH_INFO"] == "/write":
            write(b"body")
            return []
        return body()

    return BackgroundTasksMiddleware(app, hold_response=True, **settings)


class Closing:
    """A body with a ``close`` of its own, which may fail."""

    def __init__(self, fails: bool = False) -> None:
        self._fails = fails

    def __iter__(self) -> Iterator[bytes]:
        yield b"bo"
        log.append("read")
        yield b"dy"

    def close(self) -> None:
        log.append("closed")
        if self._fails:
            raise OSError("close failed")


class File(io.BytesIO):
    """What uWSGI's wrapper returns: the file itself."""

    reads = 0

    def read(self, *args: Any) -> bytes:
        self.reads += 1
        return super().read(*args)


@pytest.mark.parametrize("headers", [LENGTH, []], ids=["length", "stream"])
def test_tasks_run_before_the_last_part_or_the_end(headers: list[tuple[str, str]]) -> None:
    body = begin(holding(Closing, headers)).body
    parts = iter(body)
    assert next(parts) == b"bo"
    assert log == (["read"] if headers else [])
    assert next(parts) == b"dy"
    tasks = ["closed", "plain", "async"]
    assert log == (["read", *tasks] if headers else ["read"])
    with pytest.raises(StopIteration):
        next(parts)
    assert log == ["read", *tasks]
    body.close()  # type: ignore[attr-defined]
    assert log == ["read", *tasks]


@pytest.mark.parametrize("headers", [LENGTH, []], ids=["length", "stream"])
@pytest.mark.parametrize(
    "body",
    [
        lambda: [b"body"],
        lambda: iter([b"bo", b"dy"]),
        lambda: FileWrapper(io.BytesIO(b"body")),
        lambda: File(b"bo\ndy".replace(b"\n", b"")),
        list,
    ],
    ids=["list", "iterator", "wrapper", "file", "empty"],
)
@pytest.mark.parametrize("closes", [True, False])
def test_whoever_reads_it_needs_not_close_it(
    body: Callable[[], Iterable[bytes]], headers: list[tuple[str, str]], closes: bool
) -> None:
    exchange = begin(holding(body, headers), environ(file_wrapper=FileWrapper))
    assert exchange.read() in {b"body", b""}
    assert log == ["plain", "async"]
    if closes:
        exchange.close()
        assert log == ["plain", "async"]


def test_a_file_is_not_read_line_by_line() -> None:
    file = File(b"\n" * 1000)
    assert begin(holding(lambda: file, [])).read() == b"\n" * 1000
    assert file.reads == 2
    assert file.closed
    assert log == ["plain", "async"]


def test_an_application_that_answers_through_write() -> None:
    assert begin(holding(list, LENGTH), environ(path="/write")).read() == b"body"
    assert log == ["plain", "async"]


@pytest.mark.parametrize("headers", [LENGTH, []], ids=["length", "stream"])
def test_a_body_that_is_closed_before_its_end(headers: list[tuple[str, str]]) -> None:
    exchange = begin(holding(Closing, headers))
    assert next(iter(exchange.body)) == b"bo"
    exchange.close()
    assert log[-3:] == ["closed", "plain", "async"]


@pytest.mark.parametrize("headers", [LENGTH, []], ids=["length", "stream"])
def test_a_body_whose_close_fails_is_whole(headers: list[tuple[str, str]]) -> None:
    exchange = begin(holding(lambda: Closing(fails=True), headers))
    parts = iter(exchange.body)
    assert (next(parts), next(parts)) == (b"bo", b"dy")
    with pytest.raises(OSError, match="close failed"):
        next(parts)
    assert log == ["read", "closed", "plain", "async"]


@pytest.mark.parametrize("headers", [LENGTH, []], ids=["length", "stream"])
def test_a_body_that_breaks_off_discards(headers: list[tuple[str, str]]) -> None:
    def broken() -> Iterator[bytes]:
        current_queue().options(always=True).add_task(log.append, "always")
        yield b"bo"
        raise OSError("broken off")

    exchange = begin(holding(broken, headers))
    with pytest.raises(OSError, match="broken off"):
        exchange.read()
    assert exchange.received == b"bo"
    assert log == ["always"]


def test_a_view_that_fails_discards_and_waits_for_the_rest() -> None:
    def broken() -> Iterable[bytes]:
        current_queue().options(always=True).add_task(log.append, "always")
        raise LookupError

    with pytest.raises(LookupError):
        begin(holding(broken, LENGTH))
    assert log == ["always"]


def test_it_waits_for_the_drain_timeout_and_names_what_is_left(our_log: OurLog) -> None:
    gate = threading.Event()

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        current_queue().options(name="slow").add_task(gate.wait, 20)
        current_queue().options(name="next").add_task(log.append, "next")
        start_response("200 OK", LENGTH)
        return [b"body"]

    made = BackgroundTasksMiddleware(app, hold_response=True, drain_timeout=0.01)
    response = begin(made)
    assert response.read() == b"body"
    response.close()  # which does not wait once more
    assert log == []
    (said,) = our_log.warnings
    assert "before 2 background task(s) that have not finished: slow, next" in said
    gate.set()
    assert made.runtime.drain(10) == []
    assert log == ["next"]


def test_what_leaves_the_order_is_waited_for_but_not_what_is_due_too_late(our_log: OurLog) -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for priority, delay in ((-1, 0), (1, 0), (0, 0.01), (0, 1e6)):
            name = f"{priority}, {delay}"
            options = current_queue().options(priority=priority, delay=delay, name=name)
            options.add_task(log.append, name)
        start_response("200 OK", LENGTH)
        return [b"body"]

    made = BackgroundTasksMiddleware(app, hold_response=True)
    assert begin(made).read() == b"body"
    assert sorted(log) == ["-1, 0", "0, 0.01", "1, 0"]
    assert our_log.warnings == [
        "A response that is held back does not wait for 1 background task(s) whose time does not "
        "come within the drain timeout of 30 s: 0, 1000000.0"
    ]
    assert made.runtime.drain(0) == ["0, 1000000.0"]


def test_further_attempts_are_waited_for_and_turns_of_a_limit(our_log: OurLog) -> None:
    """Those of a back-off that is too long, or of a time that is asked for, are named at once."""

    def fail(name: str, *delays: float | None) -> None:
        log.append(name)
        if log.count(name) <= len(delays):
            raise Retry(delay=delays[log.count(name) - 1])

    async def afail(name: str, *delays: float | None) -> None:
        await asyncio.sleep(0)
        fail(name, *delays)

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        queue = current_queue()
        queue.options(retries=2, backoff=0.01).add_task(fail, "plain", None, 0.01)
        queue.options(retries=1, concurrency="one").add_task(afail, "async", 0.01)
        queue.options(concurrency="one", priority=1).add_task(fail, "limited")
        queue.options(retries=1, name="too late").add_task(fail, "too late", 1e6)
        start_response("200 OK", LENGTH)
        return [b"body"]

    made = BackgroundTasksMiddleware(app, hold_response=True, concurrency={"one": 1})
    assert begin(made).read() == b"body"
    assert sorted(log) == ["async"] * 2 + ["limited"] + ["plain"] * 3 + ["too late"]
    assert our_log.warnings[-1].endswith("within the drain timeout of 30 s: too late")
    assert made.runtime.drain(0) == ["too late"]


def test_a_request_inside_a_task_does_not_wait_for_its_own() -> None:
    """All workers may be at such requests."""

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inner = env["PATH_INFO"] == "/inner"
        add_task(log.append, "inner") if inner else add_task(ask)
        start_response("200 OK", LENGTH)
        return [b"body"]

    def ask() -> None:
        serve(made, environ(path="/inner"))
        log.append("asked")

    made = BackgroundTasksMiddleware(app, hold_response=True, max_workers=1)
    assert begin(made).read() == b"body"
    assert log[0] == "asked"
    assert bgadapters.drain(10) == []
    assert log == ["asked", "inner"]


def test_on_an_event_loop_nobody_waits() -> None:
    async def main() -> None:
        assert begin(holding(list, LENGTH)).read() == b""
        assert await bgadapters.adrain(10) == []

    asyncio.run(main())
    assert log == ["plain", "async"]


def read_one(body: Iterable[bytes]) -> bytes:
    return next(iter(body))


def test_a_held_body_that_is_dropped_is_settled(our_log: OurLog) -> None:
    assert read_one(begin(holding(Closing, [])).body) == b"bo"
    assert bgadapters.drain(10) == []
    assert log == ["plain", "async"]
    assert "was dropped without a call of its close()" in our_log.warnings[0]
