"""The WSGI middleware around bare applications, called as servers call them."""

from __future__ import annotations

import gc
import io
import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper

import pytest
from flask import Flask

import bgadapters
from bgadapters import NoResponseError, QueueFullError, SettingsError, add_task
from bgadapters.adapters import Runtime, current_queue
from bgadapters.flask import BackgroundTasks as FlaskTasks
from bgadapters.wsgi import QUEUE_KEY, BackgroundTasksMiddleware
from tests.core import ways
from tests.gateways.wsgi_calls import begin, environ, serve
from tests.our_log import OurLog

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def answering(
    make_body: Callable[[WSGIEnvironment], Iterable[bytes]], status: str = "200 OK"
) -> WSGIApplication:
    """Return an application whose body is what ``make_body`` returns."""

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, [("Content-Type", "text/plain")])
        return make_body(env)

    return app


class Closable:
    """A body with a ``close`` of its own, as a framework's response has."""

    def __init__(self, log: list[str]) -> None:
        self._chunks = iter([b"bo", b"dy"])
        self._log = log

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self._log.append("close")


class SlottedWrapper:
    """A ``wsgi.file_wrapper`` whose instances take no attribute."""

    __slots__ = ("_file",)

    def __init__(self, file: io.BytesIO, block_size: int = 8192) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)


class CompiledWrapper:
    """A ``wsgi.file_wrapper`` that takes no attribute and closes its file, as mod_wsgi's."""

    __slots__ = ("_file",)

    def __init__(self, file: io.BytesIO, block_size: int = 8192) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._file)

    @property
    def filelike(self) -> io.BytesIO:
        return self._file

    def close(self) -> None:
        self._file.close()


def wrapper_function(file: io.BytesIO, block_size: int = 8192) -> FileWrapper:
    """A ``wsgi.file_wrapper`` that is no class."""
    return FileWrapper(file, block_size)


def returns_file(file: io.BytesIO, block_size: int = 8192) -> io.BytesIO:
    """A ``wsgi.file_wrapper`` as uWSGI's, which recognizes the file by its identity."""
    return file


def generated() -> Iterator[bytes]:
    yield b"bo"
    yield b"dy"


def file_body(env: WSGIEnvironment) -> Iterable[bytes]:
    body: Iterable[bytes] = env["wsgi.file_wrapper"](io.BytesIO(b"body"))
    return body


BODIES: dict[str, Callable[[WSGIEnvironment], Iterable[bytes]]] = {
    "list": lambda env: [b"bo", b"dy"],
    "tuple": lambda env: (b"body",),
    "generator": lambda env: generated(),
    "iterator": lambda env: iter([b"body"]),
    "closable": lambda env: Closable([]),
    "file": file_body,
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    "wrapper", [FileWrapper, SlottedWrapper, CompiledWrapper, wrapper_function, returns_file]
)
def test_tasks_run_after_the_body_was_closed_and_not_before(kind: str, wrapper: Any) -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "first")
        add_task(log.append, "second")
        return BODIES[kind](env)

    app = BackgroundTasksMiddleware(answering(make_body))
    exchange = begin(app, environ(file_wrapper=wrapper))
    bgadapters.drain()
    assert log == []
    assert exchange.read() == b"body"
    bgadapters.drain()
    assert log == []
    exchange.close()
    bgadapters.drain()
    assert log == ["first", "second"]


def test_an_application_that_answers_through_write_keeps_its_tasks() -> None:
    log: list[str] = []

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"bo")
        add_task(log.append, "task")
        write(b"dy")
        return []

    exchange = serve(BackgroundTasksMiddleware(app))
    bgadapters.drain()
    assert (exchange.received, log) == (b"body", ["task"])


def test_a_streamed_body_may_add_tasks_while_it_is_read() -> None:
    log: list[str] = []

    def stream() -> Iterator[bytes]:
        yield b"one"
        add_task(log.append, "task")
        yield b"two"

    serve(BackgroundTasksMiddleware(answering(lambda env: stream())))
    bgadapters.drain()
    assert log == ["task"]


def test_the_bodys_own_close_comes_before_the_tasks() -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return Closable(log)

    serve(BackgroundTasksMiddleware(answering(make_body)))
    bgadapters.drain()
    assert log == ["close", "task"]


def test_a_body_whose_close_raises_still_releases_its_tasks() -> None:
    log: list[str] = []

    class Broken(Closable):
        def close(self) -> None:
            raise OSError("close failed")

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return Broken(log)

    with pytest.raises(OSError, match="close failed"):
        serve(BackgroundTasksMiddleware(answering(make_body)))
    bgadapters.drain()
    assert log == ["task"]


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_closed_twice_runs_its_tasks_once(kind: str) -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return BODIES[kind](env)

    app = BackgroundTasksMiddleware(answering(make_body))
    exchange = begin(app, environ(file_wrapper=FileWrapper))
    exchange.close()
    exchange.close()
    bgadapters.drain()
    assert log == ["task"]


def test_a_body_abandoned_half_way_by_the_client_still_runs_its_tasks() -> None:
    """A server whose client has left closes the body without reading the rest."""
    log: list[str] = []

    def stream() -> Iterator[bytes]:
        add_task(log.append, "task")
        yield b"one"
        yield b"two"

    exchange = begin(BackgroundTasksMiddleware(answering(lambda env: stream())))
    assert next(iter(exchange.body)) == b"one"
    exchange.close()
    bgadapters.drain()
    assert log == ["task"]


def test_servers_can_still_compute_a_content_length() -> None:
    app = BackgroundTasksMiddleware(answering(lambda env: [b"body"]))
    sized = serve(app).body
    assert isinstance(sized, Sized)
    assert len(sized) == 1
    unsized = serve(BackgroundTasksMiddleware(answering(lambda env: generated()))).body
    assert not isinstance(unsized, Sized)


@pytest.mark.parametrize("wrapper", [FileWrapper, CompiledWrapper, returns_file])
def test_a_file_wrapper_stays_what_the_server_knows_how_to_send(wrapper: Any) -> None:
    log: list[str] = []
    file = io.BytesIO(b"body")
    body = wrapper(file)

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(lambda: log.append(f"closed: {file.closed}"))
        return body  # type: ignore[no-any-return]  # of either type

    app = BackgroundTasksMiddleware(BackgroundTasksMiddleware(answering(make_body)))
    exchange = begin(app, environ(file_wrapper=wrapper))
    assert exchange.body is body
    exchange.close()
    bgadapters.drain()
    assert log == ["closed: True"]


def test_a_body_that_breaks_off_discards_its_tasks(our_log: OurLog) -> None:
    log: list[str] = []

    def stream() -> Iterator[bytes]:
        add_task(log.append, "discarded")
        add_task(log.append, "discarded too")
        current_queue().options(always=True).add_task(log.append, "always")
        yield b"one"
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        serve(BackgroundTasksMiddleware(answering(lambda env: stream())))
    bgadapters.drain()
    assert log == ["always"]
    (record,) = our_log.records
    assert record.levelno == logging.WARNING
    assert "2 background task(s) discarded" in record.getMessage()
    assert "ValueError: half way" in record.getMessage()
    assert record.getMessage().count("list.append") == 2


def test_after_a_body_broke_off_nothing_waits_for_a_close_that_may_not_come() -> None:
    log: list[str] = []

    def stream() -> Iterator[bytes]:
        current_queue().options(always=True).add_task(log.append, "always")
        yield b"one"
        raise ValueError("half way")

    exchange = begin(BackgroundTasksMiddleware(answering(lambda env: stream())))
    with pytest.raises(ValueError, match="half way"):
        exchange.read()
    bgadapters.drain()
    assert log == ["always"]
    exchange.close()


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_application_that_raises_discards_its_tasks(error: type[BaseException]) -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "discarded")
        env[QUEUE_KEY].options(always=True).add_task(log.append, "always")
        raise error

    with pytest.raises(error):
        serve(BackgroundTasksMiddleware(answering(make_body)))
    bgadapters.drain()
    assert log == ["always"]


def test_an_error_response_that_was_returned_runs_its_tasks() -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return [b"sorry"]

    app = answering(make_body, status="500 Internal Server Error")
    assert serve(BackgroundTasksMiddleware(app)).status.startswith("500")
    bgadapters.drain()
    assert log == ["task"]


def test_nested_middlewares_share_one_queue() -> None:
    log: list[str] = []

    class Between:
        def __init__(self, app: WSGIApplication) -> None:
            self.app = app

        def __call__(self, env: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            add_task(log.append, "between")
            return self.app(env, start)

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "inside")
        return [b"body"]

    inner = BackgroundTasksMiddleware(answering(make_body))
    serve(BackgroundTasksMiddleware(Between(inner)))
    bgadapters.drain()
    assert log == ["between", "inside"]


def test_an_environ_used_again_gets_a_queue_of_its_own() -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return [b"body"]

    app = BackgroundTasksMiddleware(answering(make_body))
    env = environ()
    serve(app, env)
    serve(app, env)
    bgadapters.drain()
    assert log == ["task", "task"]


def test_after_a_failed_attempt_an_environ_used_again_gets_a_queue_of_its_own() -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        attempts.append(1)
        add_task(log.append, f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise ConnectionError
        return [b"body"]

    attempts: list[int] = []
    app = BackgroundTasksMiddleware(answering(make_body))
    env = environ()
    with pytest.raises(ConnectionError):
        serve(app, env)
    serve(app, env)
    bgadapters.drain()
    assert log == ["attempt 2"]


def test_a_body_that_is_never_closed_is_announced() -> None:
    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(print, "never")
        return [b"body"]

    def serve_without_closing() -> None:
        copy_context().run(begin, BackgroundTasksMiddleware(answering(make_body)))
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"1 background task\(s\) never ran \(builtins.print"):
        serve_without_closing()


def in_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_outside_of_a_response_there_is_no_queue_to_add_to() -> None:
    serve(BackgroundTasksMiddleware(answering(lambda env: [b"body"])))
    with pytest.raises(NoResponseError, match="where no response is being made"):
        add_task(print)


def test_a_response_closed_in_another_thread_runs_its_tasks() -> None:
    log: list[str] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(log.append, "task")
        return [b"body"]

    app = BackgroundTasksMiddleware(answering(make_body))
    exchange = copy_context().run(begin, app)
    in_thread(exchange.close)
    bgadapters.drain()
    assert log == ["task"]


def test_a_task_sees_the_context_variables_of_the_moment_it_was_added() -> None:
    log: list[str] = []
    user: ContextVar[str] = ContextVar("user")

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        user.set("ada")
        add_task(lambda: log.append(user.get()))
        user.set("bob")
        add_task(lambda: log.append(user.get()))
        return [b"body"]

    serve(BackgroundTasksMiddleware(answering(make_body)))
    bgadapters.drain()
    assert log == ["ada", "bob"]


def test_async_tasks_share_one_event_loop() -> None:
    import asyncio

    loops: list[object] = []

    async def note_loop() -> None:
        loops.append(asyncio.get_running_loop())

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        add_task(note_loop)
        return [b"body"]

    app = BackgroundTasksMiddleware(answering(make_body))
    serve(app)
    serve(app)
    bgadapters.drain()
    assert len(loops) == 2
    assert loops[0] is loops[1]


def test_a_view_may_answer_503_when_the_backlog_is_full() -> None:
    gate = threading.Event()

    def app(env: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            add_task(gate.wait)
        except QueueFullError:
            start_response("503 Service Unavailable", [])
            return []
        start_response("202 Accepted", [])
        return []

    limited = BackgroundTasksMiddleware(app, max_pending=2, on_full="reject")
    try:
        statuses = [serve(limited).status[:3] for _ in range(4)]
    finally:
        gate.set()
    bgadapters.drain()
    assert statuses == ["202", "202", "503", "503"]
    assert serve(limited).status[:3] == "202"
    bgadapters.drain()


def test_when_the_backlog_is_full_the_releasing_thread_is_kept_and_does_no_task() -> None:
    gate = threading.Event()
    threads: list[int] = []

    def make_body(env: WSGIEnvironment) -> Iterable[bytes]:
        if env["PATH_INFO"] == "/fill":
            add_task(gate.wait)
        else:
            add_task(lambda: threads.append(threading.get_ident()))
        return []

    app = BackgroundTasksMiddleware(answering(make_body), max_pending=1, max_workers=1)
    serve(app, environ(path="/fill"))
    serving = threading.Thread(target=serve, args=(app,))
    try:
        serving.start()
        serving.join(0.1)
        assert serving.is_alive()
    finally:
        gate.set()
    serving.join(10)
    bgadapters.drain()
    assert threads
    assert threads != [serving.ident]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_worker": 1}, "unknown setting max_worker; accepted are max_workers"),
        ({"max_workers": 0}, "max_workers accepts a whole number from 1, not 0"),
        ({"max_workers": "8"}, "max_workers accepts a whole number from 1, not '8'"),
        ({"on_full": "drop"}, "on_full accepts 'run' or 'reject', not 'drop'"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        BackgroundTasksMiddleware(answering(lambda env: []), **settings)


def _middleware(app: Any) -> tuple[Any, Runtime]:
    made = BackgroundTasksMiddleware(app)
    return made, made.runtime


def _flask(app: Any) -> tuple[Any, Runtime]:
    flask = Flask(__name__)
    flask.wsgi_app = app  # type: ignore[method-assign]
    FlaskTasks(flask)
    return flask, flask.extensions["bgadapters"]


@pytest.mark.parametrize("make", [_middleware, _flask])
def test_a_process_whose_application_a_thread_has_made_is_told_that_sigterm_kills_it(
    make: Callable[[Any], tuple[Any, Runtime]], our_log: OurLog
) -> None:
    """Only the main thread may handle it."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        add_task(print, end="")
        start_response("204 No Content", [])
        return []

    def serve_once() -> None:
        served, runtime = make(app)
        serve(served)
        assert runtime.drain(ways.PATIENCE) == []

    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(serve_once).result()
    finally:
        signal.signal(signal.SIGTERM, handler)
    (said,) = our_log.warnings
    assert said.startswith("SIGTERM would end this process at once")
    assert said.endswith("Make the application in the main thread: no other may handle SIGTERM.")


@pytest.mark.parametrize("body", [[b"body"], Closable([])], ids=["list", "iterable"])
def test_a_response_without_tasks_makes_no_batch(body: Iterable[bytes]) -> None:
    env = environ()
    serve(BackgroundTasksMiddleware(answering(lambda _: body)), env)
    queue = env[QUEUE_KEY]
    assert not queue.is_used
    assert not queue.is_open
