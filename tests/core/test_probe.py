"""The probe: who may ask for it, what its tasks report, and that it costs nobody else anything."""

from __future__ import annotations

import asyncio
import os
import queue as queues
import re
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bgadapters import BackgroundTasks, SettingsError, TaskMiddleware, asgi, wsgi
from bgadapters.adapters import Runtime
from bgadapters.check.listener import Listener, Visit
from bgadapters.core import host
from bgadapters.core.api import probe as probes
from bgadapters.core.api.probe import NEXT_GATE, RESPONSE_GATE
from bgadapters.core.app.runtime import CHECK_TOKEN as TOKEN
from bgadapters.core.process import signals
from tests.core import ways

SECRET = "a-token-for-tests-alone"
ORDER = ["opened", "started", "held", "ended", "async-started", "async-ended", "finished"]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listening:
        yield listening


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch, make_runtime: ways.MakeRuntime) -> ways.MakeRuntime:
    """Make runtimes of a process that has opted in."""
    monkeypatch.setenv(TOKEN, SECRET)
    return make_runtime


def visit(queue: BackgroundTasks, header: str | None, **more: Any) -> None:
    probes.visit(queue, header, "test", **more)


def visited(
    listener: Listener, runtime: Runtime, run: ways.Run = ways.in_threads, **more: Any
) -> Visit:
    """What was reported for a queue that ran, with both gates open."""
    listener.open(RESPONSE_GATE + NEXT_GATE)
    queue = BackgroundTasks(runtime=runtime)
    visit(queue, f"{SECRET}:{listener.port}", **more)
    run(queue)
    assert listener.finished(ways.PATIENCE)
    (only,) = listener.visits()
    return only


def test_without_the_variable_there_is_no_probe(
    monkeypatch: pytest.MonkeyPatch, make_runtime: ways.MakeRuntime
) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert make_runtime().check_token is None
    monkeypatch.setenv(TOKEN, "")
    assert make_runtime().check_token is None


@pytest.mark.parametrize("token", ["too-short", "sixteen characters", "x" * 15, "ä" * 16])
def test_a_token_that_could_be_guessed_is_refused(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(SettingsError, match=f"{TOKEN} accepts at least 16 characters"):
        Runtime()


def test_the_error_and_its_frames_do_not_tell_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error pages and collectors show what the frames of a traceback hold."""
    monkeypatch.setenv(TOKEN, "my secret, too short"[:12])
    with pytest.raises(SettingsError) as refusal:
        Runtime()
    shown = traceback.TracebackException.from_exception(refusal.value, capture_locals=True)
    ours = [frame for frame in shown.stack if "bgadapters" in frame.filename]
    assert len(ours) >= 2
    assert "my secret" not in str(refusal.value) + "".join(
        f"{frame.locals}" for frame in ours if f"{os.sep}tests{os.sep}" not in frame.filename
    )


def test_a_token_that_would_not_fit_into_a_header_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN, "x" * 16 + "\n")
    with pytest.raises(SettingsError):
        Runtime()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        SECRET,
        f"{SECRET}:",
        f"{SECRET}:0",
        f"{SECRET}:65536",
        f"{SECRET}:8000/path",
        f"{SECRET}:٨٠",
        f"{SECRET}x:8000",
        f"{SECRET[:-1]}:8000",
        f"{SECRET[:-1]}\udcff:8000",
    ],
)
def test_a_request_without_the_token_is_one_like_any_other(
    probed: ways.MakeRuntime, header: str | None
) -> None:
    queue = BackgroundTasks(runtime=probed())
    visit(queue, header)
    assert len(queue) == 0


def test_a_wrong_token_reaches_nobody(probed: ways.MakeRuntime, listener: Listener) -> None:
    visit(BackgroundTasks(runtime=probed()), f"{'x' * 16}:{listener.port}")
    assert not listener.saw("opened", 0.05)


def test_nothing_is_added_where_nobody_listens(probed: ways.MakeRuntime) -> None:
    with socket.socket() as bound:  # a port that is taken, and refuses connections
        bound.bind(("127.0.0.1", 0))
        queue = BackgroundTasks(runtime=probed())
        visit(queue, f"{SECRET}:{bound.getsockname()[1]}")
    assert len(queue) == 0


def test_its_tasks_report_in_order(
    probed: ways.MakeRuntime, listener: Listener, run: ways.Run
) -> None:
    seen = visited(listener, probed(max_workers=3), run)
    assert [report["what"] for report in seen.reports] == ORDER
    assert seen.fact("opened", "settings")["max_workers"] == 3
    assert seen.fact("held", "opened") is seen.fact("ended", "opened") is True
    assert seen.fact("finished", "refused_threads") is False
    assert any("test_its_tasks_report" in name for name in seen.fact("opened", "callers"))


def test_its_tasks_are_held_until_the_gates_open(
    probed: ways.MakeRuntime, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HOLD", ways.PATIENCE)
    queue = BackgroundTasks(runtime=probed())
    visit(queue, f"{SECRET}:{listener.port}")
    queue.release()
    assert listener.saw("started", ways.PATIENCE)
    assert not listener.saw("held", 0.05)
    listener.open(b"x" + RESPONSE_GATE)
    assert listener.saw("held", ways.PATIENCE)
    assert not listener.saw("ended", 0.05)
    listener.open(NEXT_GATE)
    assert listener.finished(ways.PATIENCE)


def test_it_waits_no_longer_than_a_task_takes(
    probed: ways.MakeRuntime, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a server whose clients wait for tasks answers in the end, and is found out."""
    monkeypatch.setattr(probes, "HOLD", 0.05)
    queue = BackgroundTasks(runtime=probed())
    visit(queue, f"{SECRET}:{listener.port}")
    ways.in_threads(queue)
    assert listener.finished(ways.PATIENCE)
    (seen,) = listener.visits()
    assert [report["what"] for report in seen.reports] == ORDER
    assert seen.fact("held", "opened") is seen.fact("ended", "opened") is False


def test_a_deadline_that_has_passed_is_not_waited_for(
    probed: ways.MakeRuntime, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HOLD", 0.0)
    assert visited(listener, probed()).fact("held", "opened") is False


def test_a_checker_that_has_gone_is_not_waited_for(
    probed: ways.MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "HOLD", ways.PATIENCE * 10)  # longer than the drain waits
    queue = BackgroundTasks(runtime=probed())
    with Listener() as listener:
        visit(queue, f"{SECRET}:{listener.port}")
        assert listener.saw("opened", ways.PATIENCE)
    ways.in_threads(queue)


def on_a_loop(step: Callable[[], None]) -> None:
    """Do what a server's event loop would do in one of its steps."""

    async def main() -> None:
        step()

    asyncio.run(main())


def nobody_accepts() -> tuple[socket.socket, list[socket.socket]]:
    """A port that listens and has no room for a connection; whoever connects waits."""
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    clients = [socket.socket() for _ in range(4)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(full.getsockname())
    return full, clients


@pytest.mark.parametrize("where", [on_a_loop, lambda step: step()], ids=["loop", "thread"])
def test_a_connection_that_does_not_come_is_not_waited_for(
    probed: ways.MakeRuntime, monkeypatch: pytest.MonkeyPatch, where: Callable[..., None]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(probes, "_CONNECT", 0.05)
    monkeypatch.setattr("socket.socket", noting(waits))
    queue = BackgroundTasks(runtime=probed())
    full, clients = nobody_accepts()
    with full:
        where(lambda: visit(queue, f"{SECRET}:{full.getsockname()[1]}"))
    for client in clients:
        client.close()
    assert len(queue) == 0
    assert waits == [0 if where is on_a_loop else 0.05]


def noting(waits: list[float]) -> type[socket.socket]:
    """A socket that notes how long it may wait."""

    class Socket(socket.socket):
        def settimeout(self, value: float | None) -> None:
            if value is not None:
                waits.append(value)
            super().settimeout(value)

    return Socket


def test_on_a_loop_nothing_is_waited_for(
    probed: ways.MakeRuntime, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where no thread can be had: the tasks run on the loop, and it serves others as well."""
    waits: list[float] = []
    runtime = probed()
    monkeypatch.setattr("socket.socket", noting(waits))
    queue = BackgroundTasks(runtime=runtime)

    def serve() -> None:
        visit(queue, f"{SECRET}:{listener.port}")
        for task in list(queue.batch.waiting):
            if not task.is_async:
                task.call()

    on_a_loop(serve)
    on_the_loop = set(waits)
    assert listener.saw("opened", ways.PATIENCE)  # it may not have accepted the connection before
    queue.close(LookupError())
    assert listener.finished(ways.PATIENCE)
    (seen,) = listener.visits()
    assert seen.fact("held", "opened") is seen.fact("ended", "opened") is False
    assert on_the_loop == {0}


def test_all_waits_have_one_budget(
    probed: ways.MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side may send a byte now and then, and never close."""
    monkeypatch.setattr(probes, "_BUDGET", 0.2)
    monkeypatch.setattr(probes, "HOLD", ways.PATIENCE)
    waits: list[float] = []
    monkeypatch.setattr("socket.socket", noting(waits))
    queue = BackgroundTasks(runtime=probed())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        visit(queue, f"{SECRET}:{silent.getsockname()[1]}")
        connection, _ = silent.accept()
        ways.in_threads(queue)  # ends though nobody opens a gate or closes the connection
        connection.close()
    assert all(wait <= 0.2 for wait in waits)
    assert waits[-1] == 0


def test_a_checker_that_does_not_read_is_left(
    probed: ways.MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_BUDGET", 0.05)
    monkeypatch.setattr(probes, "_facts", lambda *_: {"callers": "x" * (1 << 24)})
    queue = BackgroundTasks(runtime=probed())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        visit(queue, f"{SECRET}:{deaf.getsockname()[1]}")
        ways.in_threads(queue)


def test_the_failed_response_is_told_from_the_lost_one(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    queue = BackgroundTasks(runtime=probed())
    visit(queue, f"{SECRET}:{listener.port}")
    assert listener.saw("opened", ways.PATIENCE)
    queue.close(LookupError())
    assert listener.finished(ways.PATIENCE)
    (seen,) = listener.visits()
    assert [report["what"] for report in seen.reports] == ["opened", "finished"]


@pytest.mark.filterwarnings("ignore:.*never ran:ResourceWarning")
def test_the_checker_hears_of_a_queue_that_is_never_released(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    queue = BackgroundTasks(runtime=probed())
    visit(queue, f"{SECRET}:{listener.port}")
    assert listener.saw("opened", ways.PATIENCE)
    del queue
    assert listener.finished(ways.PATIENCE)
    (seen,) = listener.visits()
    assert seen.is_over
    assert [report["what"] for report in seen.reports] == ["opened"]


def test_a_lack_of_capacity_is_the_checkers_affair(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    """The view goes on as if nobody had asked."""
    runtime = probed(on_full="reject", max_pending=1)
    runtime.in_flight.reserve(1)
    queue = BackgroundTasks(runtime=runtime)
    visit(queue, f"{SECRET}:{listener.port}")
    assert listener.saw("refused", ways.PATIENCE)
    assert "max_pending" in listener.visits()[0].fact("refused", "why")
    runtime.in_flight.free(1)


def test_an_application_that_accepts_portable_tasks_alone_is_checked_too(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    seen = visited(listener, probed(strict_portable=True))
    assert [report["what"] for report in seen.reports] == ORDER


def test_hooks_are_shown_by_name(probed: ways.MakeRuntime, listener: Listener) -> None:
    settings = visited(listener, probed(on_error=hook)).fact("opened", "settings")
    assert settings["on_error"].endswith("test_probe.hook")


def hook(_: object) -> None: ...


def test_middlewares_are_shown_by_name(probed: ways.MakeRuntime, listener: Listener) -> None:
    class Tenant(TaskMiddleware):
        pass

    seen = visited(listener, probed(task_middleware=[Tenant()]))
    where = f"{__name__}.test_middlewares_are_shown_by_name.<locals>.Tenant"
    assert seen.fact("opened", "settings")["task_middleware"] == [where]


def test_the_chain_below_is_told_by_its_classes(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    class Middleware:
        app: object

    class Derived(Middleware): ...

    def endpoint() -> None: ...

    derived = Derived()
    outer = types.SimpleNamespace(middleware_stack=types.SimpleNamespace(app=derived))
    endpoint.app = outer  # type: ignore[attr-defined]  # a circle, which has no end
    derived.app = endpoint
    *_, (own, base, root), function = visited(listener, probed(), below=outer).fact(
        "opened", "below"
    )
    assert own.endswith("Derived")
    assert base.endswith("Middleware")
    assert root == "builtins.object"
    assert function[0] == "builtins.function"


def test_the_chain_goes_on_through_other_names_and_closures(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    class Innermost:
        async def __call__(self, scope: object) -> None: ...

    class Middleware:
        def __init__(self, app: object) -> None:
            self._app = app

    def wrap(wrapped_app: Callable[[object], Any]) -> Callable[[object], Any]:
        settings = later = {"size": 3}

        async def wrapped(scope: object) -> None:
            assert settings
            await wrapped_app(scope)
            assert later  # noqa: F821

        del later  # which leaves an empty cell
        return wrapped

    seen = visited(listener, probed(), below=Middleware(wrap(Innermost())))
    names = [each[0].rpartition(".")[2] for each in seen.fact("opened", "below")]
    assert names == ["Middleware", "function", "Innermost"]


def test_a_function_is_the_end_of_the_chain(probed: ways.MakeRuntime, listener: Listener) -> None:
    async def application(scope: object) -> None: ...

    below = visited(listener, probed(), below=application).fact("opened", "below")
    assert [each[0] for each in below] == ["builtins.function"]


def test_what_the_application_raises_when_it_is_asked_for_a_name_is_not_the_request_s(
    probed: ways.MakeRuntime, listener: Listener
) -> None:
    class Proxy:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("outside of its context")

        def __call__(self, _: object) -> None: ...

    seen = visited(listener, probed(on_event=Proxy()), below=Proxy())
    assert [each[0] for each in seen.fact("opened", "below")] == [
        f"{__name__}.{Proxy.__qualname__}"
    ]
    assert seen.fact("opened", "settings")["on_event"] == f"{__name__}.{Proxy.__qualname__}"


@pytest.mark.parametrize("replaced", ["threading.RLock", "queue.SimpleQueue"])
def test_a_late_patch_is_noticed(
    probed: ways.MakeRuntime,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    replaced: str,
) -> None:
    """gevent's, in other words: of classes that were used before it."""
    runtime = probed()
    queue = BackgroundTasks(runtime=runtime)
    with monkeypatch.context() as patched:
        other: Callable[[], Any] = threading.Lock if "Lock" in replaced else queues.Queue
        patched.setattr(replaced, other)
        visit(queue, f"{SECRET}:{listener.port}")
    listener.open(RESPONSE_GATE + NEXT_GATE)
    ways.in_threads(queue)
    assert listener.finished(ways.PATIENCE)
    assert listener.visits()[0].fact("opened", "patched_late") is True


@pytest.mark.parametrize("threads_run", [True, False])
def test_whether_threads_run_is_told(
    probed: ways.MakeRuntime,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    threads_run: bool,
) -> None:
    monkeypatch.setattr(host, "has_threads", lambda: threads_run)
    assert visited(listener, probed()).fact("opened", "threads_run") is threads_run


STATUS = "Name:\tpython\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n"
BIT = 1 << signal.SIGTERM - 1


@pytest.mark.parametrize(
    ("known", "status", "said"),
    [
        (hook, "", "test_probe.hook$"),
        (signal.SIG_DFL, STATUS.format(ignored=0, caught=~BIT & 0xFFFFFFFF), "^SIG_DFL$"),
        (signal.SIG_DFL, STATUS.format(ignored=0, caught=BIT), "^$"),
        (signal.SIG_IGN, STATUS.format(ignored=BIT, caught=0), "^SIG_IGN$"),
        (None, STATUS.format(ignored=0, caught=BIT), "^$"),
        (None, "", "^$"),
        (signal.SIG_DFL, "", "^SIG_DFL$"),
        (signal.SIG_IGN, None, "^SIG_IGN$"),
    ],
)
def test_what_sigterm_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: Any, status: str | None, said: str
) -> None:
    """Python knows what it has set; the system knows what the server has set besides."""
    file = tmp_path / "status"
    if status is not None:
        file.write_text(status)
    monkeypatch.setattr(signal, "getsignal", lambda _: known)
    monkeypatch.setattr(signals, "_STATUS", str(file))
    assert re.search(said, probes._sigterm())


def test_a_child_of_multiprocessing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    assert probes._is_child() is False
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "the parent")
    assert probes._is_child() is True
    monkeypatch.delitem(sys.modules, "multiprocessing")
    assert probes._is_child() is False


def test_the_middlewares_hand_their_queues_over(
    probed: ways.MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the probe, with the header of the request, or None where there is none."""
    seen: list[Any] = []
    runtime = probed()
    monkeypatch.setattr(probes, "visit", lambda *arguments: seen.append(arguments[1:]))
    app = wsgi.BackgroundTasksMiddleware(lambda *_: [], runtime=runtime)
    for environ in ({}, {"HTTP_BGADAPTERS_CHECK": "token:1"}):
        app(environ, None).close()  # type: ignore[arg-type, attr-defined]
    assert seen == [(None, "wsgi", None), ("token:1", "wsgi", None)]
    found = [(b"host", b"x"), (b"bgadapters-check", b"token:2")]
    assert asgi.check_header({"headers": found}) == "token:2"
    assert asgi.check_header({"headers": found[:1]}) is None
    assert asgi.check_header({}) is None
