"""Requests that a view makes of its own application, or another one, in the middle of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import bgadapters
from bgadapters import NoResponseError, add_task
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware
from tests.gateways.wsgi_calls import Exchange, begin, environ, serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Environ = dict[str, Any]

ENVIRONS: dict[str, Callable[[Environ], Environ]] = {
    "fresh": lambda _: environ(path="/inner"),
    "copied": lambda outer: {**outer, "PATH_INFO": "/inner"},
    "the same": lambda outer: changed(outer),
}


def changed(env: Environ) -> Environ:
    env["PATH_INFO"] = "/inner"
    return env


def close(exchange: Exchange) -> None:
    exchange.read()
    exchange.close()


kept: list[Exchange] = []
ENDS: dict[str, Callable[[Exchange], object]] = {
    "closed": close,
    "read": Exchange.read,
    "kept": kept.append,
}


@pytest.fixture
def log() -> list[str]:
    kept.clear()
    return []


def calling(
    log: list[str], make: Callable[[Environ], Environ], end: Callable[[Exchange], object]
) -> BackgroundTasksMiddleware:
    """Return an application of which the view at / asks that at /inner, in the middle of itself."""

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if env["PATH_INFO"] == "/inner":
            add_task(log.append, "inner")
            start_response("200 OK", [])
            return [b"inner"]
        add_task(log.append, "before")
        end(begin(made, make(env)))
        add_task(log.append, "after")
        assert bgadapters.drain(10) == []
        log.append("answered")
        start_response("200 OK", [])
        return [b"outer"]

    made = BackgroundTasksMiddleware(app)
    return made


@pytest.mark.parametrize("make", ENVIRONS)
@pytest.mark.parametrize("end", ENDS)
def test_the_outer_queue_stays_the_current_one(log: list[str], make: str, end: str) -> None:
    serve(calling(log, ENVIRONS[make], ENDS[end]))
    assert bgadapters.drain(10) == []
    inner = ["inner"] if end != "kept" else []
    assert log == [*inner, "answered", "before", "after"]
    for exchange in kept:
        exchange.close()
    assert bgadapters.drain(10) == []
    assert log.count("inner") == 1
    with pytest.raises(NoResponseError):
        add_task(print)


@pytest.mark.parametrize("make", ENVIRONS)
def test_a_failed_inner_request_discards_its_own_tasks_alone(log: list[str], make: str) -> None:
    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if env["PATH_INFO"] == "/inner":
            add_task(log.append, "never")
            raise LookupError
        add_task(log.append, "before")
        with pytest.raises(LookupError):
            begin(made, ENVIRONS[make](env))
        env[QUEUE_KEY].add_task(log.append, "after")
        start_response("200 OK", [])
        return [b"outer"]

    made = BackgroundTasksMiddleware(app)
    serve(made)
    assert bgadapters.drain(10) == []
    assert log == ["before", "after"]


@pytest.mark.parametrize("make", ["fresh", "copied"])
def test_another_application_discards_its_own_tasks_alone(log: list[str], make: str) -> None:
    def other(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "never")
        env[QUEUE_KEY].discard(LookupError())  # as a framework's shim does for a 404
        add_task(log.append, "inner")
        start_response("404 Not Found", [])
        return []

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "before")
        serve(BackgroundTasksMiddleware(other), ENVIRONS[make](env))
        add_task(log.append, "after")
        start_response("200 OK", [])
        return []

    serve(BackgroundTasksMiddleware(app))
    assert bgadapters.drain(10) == []
    assert sorted(log) == ["after", "before", "inner"]
    assert log.index("before") < log.index("after")  # the other one's tasks run beside them


def test_each_step_of_a_body_adds_to_its_own_queue(log: list[str]) -> None:
    def body(name: str) -> Iterator[bytes]:
        for step in "ab":
            add_task(log.append, f"{name} {step}")
            yield step.encode()

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if env["PATH_INFO"] == "/inner":
            return body("inner")
        return mixed()

    def mixed() -> Iterator[bytes]:
        inner = begin(made, environ(path="/inner"))
        yield from zip_bytes(inner.body, body("outer"))
        inner.close()
        assert bgadapters.drain(10) == []
        log.append("closed")

    made = BackgroundTasksMiddleware(app)
    assert serve(made).received == b"aabb"
    assert bgadapters.drain(10) == []
    assert log == ["inner a", "inner b", "closed", "outer a", "outer b"]


def zip_bytes(*bodies: Iterable[bytes]) -> Iterator[bytes]:
    for steps in zip(*bodies, strict=True):
        yield from steps


def test_an_application_that_falls_back_on_another_has_one_queue(log: list[str]) -> None:
    def first(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "first")
        return second(env, start_response)

    def answering(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        add_task(log.append, "second")
        start_response("200 OK", [])
        return []

    second: WSGIApplication = BackgroundTasksMiddleware(answering)
    exchange = begin(BackgroundTasksMiddleware(first))
    assert bgadapters.drain(10) == []
    assert log == []
    exchange.close()
    assert bgadapters.drain(10) == []
    assert log == ["first", "second"]


def test_a_connection_that_a_handler_has_taken_over_has_not_failed(log: list[str]) -> None:
    """gunicorn has a handler say so by a StopIteration, as simple-websocket does."""

    def app(env: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        add_task(log.append, env.get("HTTP_UPGRADE", "bug"))
        raise StopIteration

    made = BackgroundTasksMiddleware(app)
    for more in ({"HTTP_UPGRADE": "websocket"}, {}):
        with pytest.raises(StopIteration):
            begin(made, {**environ(), **more})
        assert bgadapters.drain(10) == []
    assert log == ["websocket"]
