"""Responses that nobody closes: what becomes of their tasks, and what is said of it."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest

import bgadapters
from bgadapters import BackgroundTasks, NoResponseError, add_task
from bgadapters.adapters import Runtime, current_queue, settle_unclosed
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware
from tests.core import ways
from tests.gateways.wsgi_calls import begin, environ
from tests.our_log import OurLog

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log: list[str] = []


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    log.clear()


def application(body: Callable[[], Iterable[bytes]]) -> BackgroundTasksMiddleware:
    """Return one with a task to run, and one that runs although its response has failed."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "task")
        current_queue().options(always=True).add_task(log.append, "always")
        start_response("200 OK", [])
        return body()

    return BackgroundTasksMiddleware(app)


def chunks() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


BODIES: list[Callable[[], Iterable[bytes]]] = [lambda: [b"one", b"two"], chunks]


def read(body: Iterable[bytes]) -> None:
    assert b"".join(body) == b"onetwo"


def begun(body: Iterable[bytes]) -> None:
    assert next(iter(body)) == b"one"


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("take", [read, begun])
def test_what_was_read_has_its_tasks_run_when_it_is_dropped(
    our_log: OurLog, body: Callable[[], Iterable[bytes]], take: Callable[[Iterable[bytes]], None]
) -> None:
    app = application(body)
    for _ in range(3):
        take(begin(app, environ(path="/order")).body)
        assert bgadapters.drain(10) == []
    assert log == ["task", "always"] * 3
    (said,) = our_log.warnings
    assert said.startswith("The response to GET /order was dropped without a call of its close()")
    assert "PEP 3333" in said
    assert "2 background task(s) run all the same: list.append, list.append" in said
    assert f"(in {__name__})" in said
    assert "hold_response=True" in said


@pytest.mark.parametrize("body", BODIES)
def test_what_was_not_read_has_its_tasks_discarded_at_once(
    our_log: OurLog, body: Callable[[], Iterable[bytes]]
) -> None:
    app = application(body)
    with pytest.warns(ResourceWarning, match=r"2 background task\(s\) never ran \(list.append, "):
        begin(app, environ(path="/order"))
    assert bgadapters.drain(10) == []
    assert log == ["always"]
    (said,) = our_log.warnings
    assert said.startswith("1 background task(s) discarded")
    assert "The response to GET /order was dropped, and neither read nor closed" in said


@pytest.mark.parametrize("take", [read, begun, lambda _: None])
def test_after_it_no_task_is_accepted(take: Callable[[Iterable[bytes]], None]) -> None:
    exchange = begin(application(chunks))
    take(exchange.body)
    with pytest.raises(NoResponseError):
        add_task(log.append, "nobody's")
    exchange.close()
    with pytest.raises(NoResponseError):
        add_task(log.append, "nobody's")
    assert bgadapters.drain(10) == []
    assert log == ["task", "always"]


def test_a_response_without_tasks_says_nothing(our_log: OurLog) -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"one", b"two"]

    begin(BackgroundTasksMiddleware(app))
    read(begin(BackgroundTasksMiddleware(app)).body)
    assert our_log.messages == []


def test_a_body_that_breaks_off_is_settled_by_that(our_log: OurLog) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        read(begin(application(broken)).body)
    assert bgadapters.drain(10) == []
    assert log == ["always"]
    assert len(our_log.warnings) == 1


def test_a_file_that_nobody_closes_is_named_by_the_collector(our_log: OurLog) -> None:
    def drop_a_file() -> None:
        app = application(lambda: FileWrapper(io.BytesIO(b"onetwo")))
        read(begin(app, environ(file_wrapper=FileWrapper)).body)
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"2 background task\(s\) never ran"):
        drop_a_file()
    assert "their queue was never released" in our_log.warnings[0]


def test_the_collector_may_drop_one_in_the_middle_of_the_core(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There this thread may hold a lock that the release asks for."""
    ran = threading.Event()

    def adding(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(ran.set)
        start_response("200 OK", [])
        return chunks()

    app = BackgroundTasksMiddleware(adding)
    held = [begin(app)]
    begun(held[0].body)
    registry = app.runtime.in_flight
    live = registry.live()

    class Dropping(list[Any]):
        def __init__(self, given: Any) -> None:
            held.clear()
            super().__init__(given)

    module = sys.modules[type(registry).__module__]
    monkeypatch.setattr(module, "list", Dropping, raising=False)
    assert registry.live() == live  # which has the registry's lock meanwhile
    monkeypatch.undo()
    ways.reached(ran)


def settle(queue: BackgroundTasks) -> None:
    settle_unclosed(queue, True, "The response", sys._getframe())


def test_where_no_thread_can_be_had_the_loss_is_named(
    monkeypatch: pytest.MonkeyPatch, our_log: OurLog
) -> None:
    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("bgadapters.core.host.start_thread", no_thread)
    queue = BackgroundTasks(runtime=Runtime())
    queue.add_task(log.append, "never")
    inside: dict[str, Any] = {"__name__": "bgadapters.core.app.scheduler", "settle": settle}
    exec("def collect(queue): settle(queue)", inside)  # a finalizer that the core has brought about
    inside["collect"](queue)
    assert queue.is_open
    with pytest.warns(ResourceWarning, match="never ran"):
        del queue
    assert log == []
    assert "their queue was never released" in our_log.warnings[-1]


def test_the_end_of_the_process_has_no_frame() -> None:
    queue = BackgroundTasks()
    queue.add_task(log.append, "task")
    settle_unclosed(queue, True, "The response", None)
    assert bgadapters.drain(10) == []
    assert log == ["task"]


@pytest.mark.parametrize("adds", [True, False])
def test_at_the_end_of_the_interpreter_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, our_log: OurLog, adds: bool
) -> None:
    ending = SimpleNamespace(is_finalizing=lambda: True)
    queue = BackgroundTasks()
    if adds:
        queue.options(always=True).add_task(log.append, "never")
    monkeypatch.setattr("bgadapters.core.api.unclosed.sys", ending)
    settle_unclosed(queue, True, "The response", None)
    assert not queue.is_open
    assert bgadapters.drain(10) == []
    assert log == []
    assert len(our_log.warnings) == adds


AT_THE_END = """
    import logging, sys
    from bgadapters import BackgroundTasks, add_task
    from bgadapters.wsgi import BackgroundTasksMiddleware

    def app(environ, start_response):
        if "task" in sys.argv:
            add_task(print, "never")
        start_response("200 OK", [])
        return iter([b"body"])

    logging.basicConfig(format="%(message)s")
    body = BackgroundTasksMiddleware(app)({"PATH_INFO": "/kept"}, lambda *_: None)
    next(body)
"""


@pytest.mark.parametrize("adds", [True, False])
def test_one_that_is_kept_until_the_process_ends_is_named(adds: bool) -> None:
    done = ways.run_script(AT_THE_END, *["task"] * adds)
    said = "1 background task(s) discarded, The response to None /kept was not closed until the"
    assert done.stderr.startswith(said if adds else "")
    assert done.stderr.count("\n") == adds
    assert (done.returncode, done.stdout) == (0, "")


def test_an_environ_that_outlives_its_response_holds_a_closed_queue() -> None:
    env = environ()
    read(begin(application(chunks), env).body)
    with pytest.raises(bgadapters.QueueClosedError):
        env[QUEUE_KEY].add_task(log.append, "late")
    assert bgadapters.drain(10) == []
    assert log == ["task", "always"]
