"""What a signal handler raises into the main thread is the server's, and no task's failure."""

from __future__ import annotations

import _thread
import asyncio
import signal
import sys
import threading
import wsgiref.handlers
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core import host
from bgadapters.core.host import uwsgi
from bgadapters.core.process import signals
from tests.core.ways import PATIENCE, Log, MakeRuntime


@pytest.fixture(autouse=True)
def _as_they_were() -> Iterator[None]:
    """SIGINT does what it does in Python."""
    numbers = signal.SIGINT, signal.SIGABRT
    handlers = [signal.getsignal(each) for each in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, handlers, strict=True):
        signal.signal(number, handler)


def leave(*_: object) -> None:
    """A handler, as gunicorn's of SIGABRT: it raises SystemExit in a function that it calls."""
    sys.exit(1)


class Worker:
    """A server's object, with handlers."""

    def abort(self, *_: object) -> None:
        leave()

    def __call__(self, *_: object) -> None:
        leave()


def caught(func: Callable[[], object]) -> BaseException:
    with pytest.raises((KeyboardInterrupt, SystemExit)) as raised:
        func()
    return raised.value


@pytest.mark.parametrize(
    "handler",
    [leave, Worker().abort, Worker(), partial(leave, 1), partial(Worker().abort, 1)],
    ids=["function", "method", "object", "partial", "partial method"],
)
def test_a_handler_in_python_is_seen_in_the_traceback(handler: Callable[..., Any]) -> None:
    signal.signal(signal.SIGABRT, handler)
    assert host.raised_by_signal(caught(partial(signal.raise_signal, signal.SIGABRT)))
    assert not host.raised_by_signal(caught(sys.exit))


def test_ctrl_c_is_no_raise_of_a_task() -> None:
    def task() -> None:
        raise KeyboardInterrupt

    interruption = caught(partial(signal.raise_signal, signal.SIGINT))
    assert host.raised_by_signal(interruption)
    assert not host.raised_by_signal(caught(task))
    assert not host.raised_by_signal(KeyboardInterrupt())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert not host.raised_by_signal(interruption)


def test_no_signal_is_raised_in_another_thread() -> None:
    found: Log = []
    interruption = caught(partial(signal.raise_signal, signal.SIGINT))
    thread = threading.Thread(target=lambda: found.append(host.raised_by_signal(interruption)))
    thread.start()
    thread.join(PATIENCE)
    assert found == [False]
    assert not host.raised_by_signal(ValueError())


def test_ctrl_c_leaves_the_loop_that_an_async_task_is_on(
    make_runtime: MakeRuntime, log: Log, warned: Callable[[], list[str]]
) -> None:
    """As where a server runs a loop without asyncio.run, and its handler raises. The rest runs."""
    queue = BackgroundTasks(runtime=make_runtime(on_event=log.append))
    loop = asyncio.new_event_loop()

    async def breaks_off() -> None:
        signal.raise_signal(signal.SIGINT)

    async def runs() -> None:
        log.append("ran")

    async def serve() -> None:
        queue.options(name="first").add_task(breaks_off)
        queue.add_task(runs)
        del log[:]
        queue.release()
        await asyncio.Event().wait()

    serving = loop.create_task(serve())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(queue.runtime.adrain())
    serving.cancel()
    loop.run_until_complete(asyncio.wait([serving]))
    loop.close()
    assert log[0].kind == "started"
    assert (log[1].kind, type(log[1].exception)) == ("abandoned", KeyboardInterrupt)
    assert "ran" in log
    assert warned() == ["Background task first was broken off by a signal: KeyboardInterrupt"]


def test_where_no_thread_can_be_had_a_signal_still_reaches_the_server(
    make_runtime: MakeRuntime,
    log: Log,
    warned: Callable[[], list[str]],
    errors: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
    uwsgi._uwsgi.cache_clear()
    queue = BackgroundTasks(runtime=make_runtime())
    queue.options(name="first").add_task(signal.raise_signal, signal.SIGINT)
    queue.options(name="second").add_task(log.append, 1)
    with pytest.raises(KeyboardInterrupt):
        queue.release()
    last = BackgroundTasks(runtime=queue.runtime)
    last.add_task(signal.raise_signal, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        last.release()
    uwsgi._uwsgi.cache_clear()
    assert (log, errors()) == ([], [])
    assert warned()[1:3] == [
        "Background task first was broken off by a signal: KeyboardInterrupt",
        "1 background task(s) discarded, a signal has broken off the one before: second",
    ]


def test_a_server_that_forgets_ctrl_c_is_told_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless it ends, or nobody can tell it."""
    monkeypatch.setattr(host, "signal_main_thread", log.append)
    monkeypatch.setattr(_thread, "start_new_thread", lambda tell, args: tell(*args))
    monkeypatch.setattr(signals, "_ending", threading.Event())
    monkeypatch.setattr(signals, "_INSIDE", 0)
    namespace: dict[str, Any] = {"__name__": wsgiref.handlers.__name__, "breaks_off": breaks_off}
    exec("def run():\n    breaks_off()", namespace)
    breaks_off()
    assert log == []
    namespace["run"]()
    assert log == [signal.SIGINT]
    signals.mark_shutdown()
    namespace["run"]()
    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    namespace["run"]()
    monkeypatch.delitem(sys.modules, wsgiref.handlers.__name__)
    namespace["run"]()
    assert log == [signal.SIGINT]


def test_a_full_backlog_where_no_thread_can_be_had(
    make_runtime: MakeRuntime, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main thread does the work itself, as do others at all times."""
    queue = BackgroundTasks(runtime=make_runtime(max_pending=1))
    queue.runtime.in_flight.reserve(1)
    queue.add_task(lambda: log.append(threading.current_thread()))
    monkeypatch.setattr(host, "start_thread", refuse)
    queue.release()
    queue.runtime.in_flight.free(1)
    assert log == [threading.current_thread()]


def refuse(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def breaks_off() -> None:
    with pytest.raises(KeyboardInterrupt), signals.reaching_the_server():
        signal.raise_signal(signal.SIGINT)
