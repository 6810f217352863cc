"""SIGTERM drains where it would have killed; another signal ends the drain at once."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen
from weakref import WeakSet

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, parse_settings
from bgadapters.core import host
from bgadapters.core.process import shutdown, signals
from tests.core.ways import (
    PATIENCE,
    Log,
    in_the_releasing_thread,
    reached,
    starts_threads_at_exit,
)

SERVER = """
import os, signal, sys, threading, time
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime

def say(*what):
    os.write(1, " ".join(map(str, what)).encode() + b"\\n")

def task(name):
    say("start", name)
    sys.stdin.readline()
    say("end", name)

def serve():
    # As servers do: a signal that comes as a thread begins to wait for a lock without a
    # timeout does not wake it.
    while True:
        threading.Event().wait(0.2)

runtime = Runtime()
runtime.handle_sigterm()
"""


class Script:
    """A process that stands for a server; it is told and tells line by line."""

    def __init__(self, *source: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "".join(map(textwrap.dedent, (SERVER, *source)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self, *lines: str) -> None:
        assert self._process.stdout is not None
        for line in lines:
            assert self._process.stdout.readline().rstrip() == line

    def hear_in_any_order(self, *lines: str) -> None:
        assert self._process.stdout is not None
        assert {self._process.stdout.readline().rstrip() for _ in lines} == set(lines)

    def hears(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def say(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def warns(self) -> str:
        """Wait for a line of the log."""
        assert self._process.stderr is not None
        return self._process.stderr.readline()

    def signal(self, signum: int) -> None:
        self._process.send_signal(signum)

    def dies_if_told(self, signum: int) -> int:
        """Signal it until it has ended: what comes close to another is taken for the same."""
        while self._process.poll() is None:
            self._process.send_signal(signum)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        return self.dies_of()

    def dies_of(self) -> int:
        """Wait, without letting the tasks go on."""
        return -self._process.wait(PATIENCE)

    def end(self) -> tuple[int, str, str]:
        out, err = self._process.communicate(timeout=4 * PATIENCE)
        return self._process.returncode, out, err

    def end_awake(self) -> tuple[int, str, str]:
        """Do as `end`, and wake the main thread until then.

        It begins to wait for a thread at any moment, and a signal that comes then does not wake it.
        """
        deadline = time.monotonic() + 4 * PATIENCE
        while time.monotonic() < deadline:
            with suppress(subprocess.TimeoutExpired):
                out, err = self._process.communicate(timeout=0.2)
                return self._process.returncode, out, err
            self.signal(signal.SIGURG)  # which does nothing where Python has ended
        return self.end()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    scripts: list[Script] = []

    def start(*source: str) -> Script:
        scripts.append(Script(*source))
        return scripts[-1]

    yield start
    for each in scripts:
        each.kill()


WITH_TASKS = """
with BackgroundTasks(runtime=runtime) as tasks:
    tasks.options(name="first").add_task(task, "first")
    tasks.options(name="second").add_task(task, "second")
"""


def test_what_runs_and_what_waits_finishes(script: Callable[..., Script]) -> None:
    server = script(
        WITH_TASKS,
        """
        try:
            say("up")
            serve()
        finally:
            say("stopped")
        """,
    )
    server.hear_in_any_order("start first", "up")
    server.signal(signal.SIGTERM)
    server.hear("stopped")
    for _ in range(2):
        server.say()
    assert server.end() == (0, "end first\nstart second\nend second\n", "")


def test_where_no_work_is_pending_the_process_dies_as_ever(
    script: Callable[..., Script],
) -> None:
    server = script("say('up')\nserve()")
    server.hear("up")
    server.signal(signal.SIGTERM)
    assert server.end() == (-signal.SIGTERM, "", "")


def test_a_setting_leaves_sigterm_alone(script: Callable[..., Script]) -> None:
    server = script(
        """
        from bgadapters.adapters import Settings
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        runtime = Runtime(Settings(handle_sigterm=False))
        runtime.handle_sigterm()
        """,
        WITH_TASKS,
        "serve()",
    )
    server.hear("start first")
    server.signal(signal.SIGTERM)
    assert server.dies_of() == signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_further_signal_ends_the_drain_at_once(
    script: Callable[..., Script], signum: int
) -> None:
    """It is said on the way what the process waits for."""
    server = script(WITH_TASKS, "serve()")
    server.hear("start first")
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)  # as a process group and its supervisor do: the same request
    assert server.warns() == (
        "The process ends when 2 background task(s) have finished, or in 29 s; "
        "Ctrl-C, twice, ends it at once: first, second\n"
    )
    server.signal(signum)
    assert server.dies_of() == signum


@pytest.mark.slow
def test_a_server_that_forgets_the_exception_is_told_again(
    script: Callable[..., Script],
) -> None:
    """As wsgiref does, which catches everything while it handles a request."""
    server = script(
        WITH_TASKS,
        """
        def handle():
            try:
                if not served:
                    served.append(1)
                    say("up")
                serve()
            except:
                say("forgotten")

        served = []
        while True:
            handle()
        """,
    )
    server.hear_in_any_order("start first", "up")
    told_at = time.monotonic()
    server.signal(signal.SIGTERM)
    server.hear("forgotten", "forgotten")
    assert time.monotonic() - told_at < 20, "that it was forgotten was not noticed"
    assert server.dies_if_told(signal.SIGTERM) == signal.SIGTERM


@pytest.mark.slow
def test_a_server_that_takes_its_time_to_stop_is_left_alone(
    script: Callable[..., Script],
) -> None:
    """It keeps the exception while it stops, so nobody tells it again."""
    server = script(
        WITH_TASKS,
        """
        try:
            say("up")
            serve()
        except SystemExit:
            say("stopping")
            time.sleep(4)
            say("stopped")
        """,
    )
    server.hear_in_any_order("start first", "up")
    server.signal(signal.SIGTERM)
    server.hear("stopping", "stopped")
    for _ in range(2):
        server.say()
    assert server.end()[:2] == (0, "end first\nstart second\nend second\n")


def test_a_forked_child_has_no_pending_work(script: Callable[..., Script]) -> None:
    """It dies of SIGTERM as ever, and its parent drains."""
    server = script(
        """
        import os
        """,
        WITH_TASKS,
        """
        ready, is_ready = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(is_ready, b".")
            signal.pause()
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)
        say("died of", os.WTERMSIG(os.waitpid(child, 0)[1]))
        """,
    )
    server.hear_in_any_order("start first", "died of 15")
    for _ in range(2):
        server.say()
    assert server.end()[:2] == (0, "end first\nstart second\nend second\n")


@pytest.mark.slow
def test_ctrl_c_while_the_main_thread_has_a_full_backlog(script: Callable[..., Script]) -> None:
    """It ends a server that forgets what is raised in a request, and no task."""
    server = script(
        """
        import wsgiref.handlers, wsgiref.simple_server
        from bgadapters.adapters import Settings
        from bgadapters.wsgi import BackgroundTasksMiddleware

        class Handler(wsgiref.simple_server.WSGIRequestHandler):
            def log_message(self, *args):
                pass

        def app(environ, start_response):
            environ["bgadapters.queue"].options(name="held").add_task(task, environ["PATH_INFO"])
            start_response("204 No Content", [])
            return []

        app = BackgroundTasksMiddleware(app, runtime=Runtime(Settings(max_pending=1)))
        server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Handler)
        say(server.server_port)
        try:
            server.serve_forever(0.05)
        except KeyboardInterrupt:
            say("stopped")
        """
    )
    port = server.hears()
    with ThreadPoolExecutor() as clients:
        for path in "/1", "/2":
            clients.submit(urlopen, f"http://127.0.0.1:{port}{path}", timeout=PATIENCE)
            server.hear(f"start {path}")
        server.signal(signal.SIGINT)
        server.hear("stopped")
        for _ in range(2):
            server.say()
    status, out, err = server.end()
    assert (status, sorted(out.splitlines())) == (0, ["end /1", "end /2"])
    assert "failed" not in err


def test_sigterm_does_not_break_off_the_step_of_an_asyncio_task(
    script: Callable[..., Script],
) -> None:
    """Neither of the application's own nor of ours, and those of ours finish."""
    server = script(
        """
        import asyncio

        async def atask(name):
            say("start", name)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            say("end", name)

        async def work():
            os.kill(os.getpid(), signal.SIGTERM)
            say("the step goes on")
            try:
                await asyncio.Event().wait()
            finally:
                say("cancelled as at Ctrl-C")

        async def main():
            with BackgroundTasks(runtime=runtime) as tasks:
                tasks.options(name="first").add_task(atask, "first")
                tasks.options(name="second").add_task(atask, "second")
            await asyncio.sleep(0.05)
            await work()

        asyncio.run(main())
        """,
    )
    server.hear("start first", "the step goes on", "cancelled as at Ctrl-C")
    for _ in range(2):
        server.say()
    assert server.end() == (0, "end first\nstart second\nend second\n", "")


THREADS = {
    "a thread": "threading.Thread(target=forever.wait, name='left').start()",
    "a timer": "threading.Timer(3600, print).start()",
    "a pool": """
from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(1).submit(forever.wait)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", THREADS)
def test_threads_that_do_not_end_do_not_keep_the_process(
    script: Callable[..., Script], kind: str
) -> None:
    """Python would wait for them; SIGTERM would have taken them along. Exit hooks still run."""
    server = script(
        """
        import atexit
        # What it has buffered is written. An alarm would kill it after that.
        atexit.register(lambda: print("by its exit hooks", signal.getitimer(signal.ITIMER_REAL)))
        forever = threading.Event()
        """,
        THREADS[kind],
        WITH_TASKS,
        """
        say("up")
        serve()
        """,
    )
    server.hear_in_any_order("start first", "up")
    server.signal(signal.SIGTERM)
    for _ in range(2):
        server.say()
    status, out, err = server.end()
    assert (status, out) == (
        0,
        "end first\nstart second\nend second\nby its exit hooks (0.0, 0.0)\n",
    )
    assert [line.partition(":")[0] for line in err.splitlines()] == [
        "The process ends, though threads are left"
    ]


def test_threads_that_end_in_time_are_waited_for(script: Callable[..., Script]) -> None:
    server = script(
        """
        def stop():
            stopping.wait()
            time.sleep(0.2)
            say("stopped")

        stopping = threading.Event()
        threading.Thread(target=stop).start()
        """,
        WITH_TASKS,
        """
        try:
            say("up")
            serve()
        finally:
            stopping.set()
        """,
    )
    server.hear_in_any_order("start first", "up")
    server.signal(signal.SIGTERM)
    server.hear("stopped")
    for _ in range(2):
        server.say()
    assert server.end() == (0, "end first\nstart second\nend second\n", "")


@pytest.mark.slow
def test_no_alarm_outlasts_the_wait_for_threads(script: Callable[..., Script]) -> None:
    """Python's last steps undo its handler: it would kill the process, which has ended well."""
    server = script(
        """
        import atexit

        def timer():
            return signal.getitimer(signal.ITIMER_REAL)

        def outlast_the_tasks():
            while timer() == (0.0, 0.0):
                time.sleep(0.001)

        atexit.register(lambda: print("alarm", timer()))
        threading.Thread(target=outlast_the_tasks).start()
        """,
        WITH_TASKS,
        """
        say("up")
        serve()
        """,
    )
    server.hear_in_any_order("start first", "up")
    server.signal(signal.SIGTERM)
    for _ in range(2):
        server.say()
    assert server.end() == (0, "end first\nstart second\nend second\nalarm (0.0, 0.0)\n", "")


SERVER_IN_A_THREAD = """
def serve_in_a_thread():
    threading.main_thread().join()
    say("the main thread is over")
    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.options(name="third").add_task(task, "third")
    say("up")
    serve()

signal.signal(signal.SIGURG, lambda *_: None)
threading.Thread(target=serve_in_a_thread, name="server").start()
"""


@pytest.mark.skipif(  # and not expected to fail: the server would wait for its own task
    (3, 12) <= sys.version_info < (3, 12, 3), reason=starts_threads_at_exit.kwargs["reason"]
)
@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_server_goes_on_in_a_thread_when_the_main_thread_is_over(
    script: Callable[..., Script], signum: int
) -> None:
    """Nothing of it is printed: Python prints what breaks off its wait for threads."""
    server = script(SERVER_IN_A_THREAD)
    server.hear("the main thread is over")
    server.hear_in_any_order("up", "start third")
    server.signal(signum)
    server.say()
    status, out, err = server.end_awake()
    assert (status, out) == (0, "end third\n")
    assert "third" not in err
    assert (signum == signal.SIGINT) == ("KeyboardInterrupt" in err)


@pytest.mark.slow
def test_a_server_in_a_thread_is_still_told_to_end_after_its_first_tasks(
    script: Callable[..., Script],
) -> None:
    """The exit hooks wait for tasks when the main thread is over, and once more at the end."""
    server = script(WITH_TASKS, SERVER_IN_A_THREAD)
    server.hear("start first")
    server.say()
    server.say()
    server.hear("end first", "start second", "end second", "the main thread is over")
    server.hear_in_any_order("up", "start third")
    server.signal(signal.SIGTERM)
    server.say()
    status, out, err = server.end_awake()
    assert (status, out) == (0, "end third\n"), err


# The same in process, piece by piece.


@pytest.fixture
def dies(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Of which signals this process would have died."""
    log: Log = []
    monkeypatch.setattr(signals, "exit_by_signal", log.append)
    return log


@pytest.fixture(autouse=True)
def tellers(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What would tell this process again, in a thread that might outlive the test."""
    found: list[Callable[[], None]] = []
    monkeypatch.setattr(
        _thread, "start_new_thread", lambda tell, args: found.append(partial(tell, *args))
    )
    return found


@contextmanager
def telling(teller: Callable[[], None]) -> Iterator[None]:
    """Tell again in a thread, which has ended at the end of the block: it was heard."""
    thread = threading.Thread(target=teller)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def _as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handlers = {each: signal.getsignal(each) for each in signals._ENDING}
    monkeypatch.setattr(signals, "_ending", threading.Event())
    yield
    signals._ending.set()
    for each, handler in handlers.items():
        signal.signal(each, handler)


def install(has_pending_work: bool = True, grace_period: float = PATIENCE) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signals.end_on_sigterm(lambda: has_pending_work, grace_period)
    return signal.getsignal(signal.SIGTERM)


def test_the_default_action_alone_is_replaced() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signals.end_on_sigterm(lambda: True, 1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert isinstance(install(), signals._Termination)


def test_the_main_thread_alone_may(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    found: Log = []

    def ask() -> None:
        signals.end_on_sigterm(lambda: True, 1)
        with signals.ending_at_once():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(PATIENCE)
    monkeypatch.setattr(host, "owns_signals", lambda: True)
    ask()
    assert found == [signal.SIG_DFL] * 2


def test_a_sub_interpreter_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", refuse)
    signals.end_on_sigterm(lambda: True, 1)
    with signals.ending_at_once():
        monkeypatch.undo()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_whether_it_kills_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_installed_in", 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert signals.sigterm_kills()
    signal.signal(signal.SIGTERM, lambda *_: None)
    assert not signals.sigterm_kills()
    monkeypatch.setattr(host, "raises_again", lambda _: True)
    assert signals.sigterm_kills()
    install()
    assert not signals.sigterm_kills()


def test_sigterm_once_twice_and_later(dies: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    with pytest.raises(signals.Terminated) as raised:
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.code == 0
    signal.raise_signal(signal.SIGTERM)  # at once: the same
    assert dies == []
    monkeypatch.setattr(signals, "_SAME_SIGNAL", 0)
    signal.raise_signal(signal.SIGTERM)
    assert dies == [signal.SIGTERM]


def test_no_pending_work(dies: Log) -> None:
    install(has_pending_work=False)
    signal.raise_signal(signal.SIGTERM)
    assert dies == [signal.SIGTERM]


def test_told_again(
    monkeypatch: pytest.MonkeyPatch, dies: Log, tellers: list[Callable[[], None]]
) -> None:
    """By the end of its grace period at the latest."""
    told = threading.Event()
    monkeypatch.setattr(signals, "_AGAIN", 0.01)
    monkeypatch.setattr(signals, "_LEAST_GRACE", 0)
    monkeypatch.setattr(host, "signal_main_thread", lambda _: told.set())
    install(grace_period=0)
    with pytest.raises(signals.Terminated) as kept:
        signal.raise_signal(signal.SIGTERM)
    with telling(tellers[0]):
        reached(told)
        with pytest.raises(signals.Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert dies == []
    del kept


def test_told_again_in_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Log = []
    termination = signals._Termination(lambda: True, 0)

    def tell(signum: int) -> None:
        told.append(signum)
        termination._told_again = len(told) % 2 == 1

    monkeypatch.setattr(host, "signal_main_thread", tell)
    monkeypatch.setattr(signals, "_LEAST_GRACE", 0)
    monkeypatch.setattr(signals, "_INSIDE", 0)
    for forgotten in (threading.Event(), None):
        termination._tell_again(0, forgotten)
    assert told == [signal.SIGTERM] * 4  # for it does not hear the first


def test_who_does_not_hear_is_told_no_more_once_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Log = []

    def tell(signum: int) -> None:
        told.append(signum)
        signals.mark_shutdown()

    monkeypatch.setattr(host, "signal_main_thread", tell)
    signals._Termination(lambda: True, 0)._tell_again(0, None)
    assert told == [signal.SIGTERM]


def test_not_told_again_once_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told: Log = []
    monkeypatch.setattr(host, "signal_main_thread", told.append)
    signals.mark_shutdown()
    signals._Termination(lambda: True, 0)._tell_again(0, None)
    assert told == []


def test_while_tasks_are_waited_for(dies: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second SIGINT or SIGQUIT ends it; SIGTERM, which a master may repeat, never does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with signals.ending_at_once():
        for each in signals._ENDING:  # at once: the same that has begun it
            signal.raise_signal(each)
        assert dies == []
        monkeypatch.setattr(signals, "_SAME_SIGNAL", 0)
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(each)
        assert dies == []
        signal.raise_signal(signal.SIGQUIT)
    assert dies == [signal.SIGQUIT]


@pytest.mark.parametrize("signum", signals._ENDING)
def test_while_tasks_are_waited_for_because_of_sigterm(
    dies: Log, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    install()
    with pytest.raises(signals.Terminated):
        signal.raise_signal(signal.SIGTERM)
    with signals.ending_at_once():
        monkeypatch.setattr(signals, "_SAME_SIGNAL", 0)
        signal.raise_signal(signum)
    assert dies == [signum]


def test_sigterm_may_come_first_while_tasks_are_waited_for(
    dies: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the main thread is over and a server goes on in another."""
    ours = install()
    with signals.ending_at_once():
        signal.raise_signal(signal.SIGTERM)
        assert ours.was_asked
        signal.raise_signal(signal.SIGTERM)  # at once: the same
        assert dies == []
        monkeypatch.setattr(signals, "_SAME_SIGNAL", 0)
        signal.raise_signal(signal.SIGTERM)
    assert dies == [signal.SIGTERM]


@pytest.fixture
def threads_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """What is printed of exceptions that nobody catches, beside a thread that does not end."""
    printed: Log = []
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    thread.start()
    monkeypatch.setattr(signals, "_LAST_CHANCE", 0.01)
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    alarm = signal.getsignal(signal.SIGALRM)
    yield printed
    signal.signal(signal.SIGALRM, alarm)
    end.set()
    thread.join()


def print_unraisable(exception: BaseException) -> None:
    """Do as Python does with what breaks off its wait for threads."""
    unraisable: Any = SimpleNamespace(exc_value=exception)
    sys.unraisablehook(unraisable)


def shutdown_of_threading(wait: Callable[[], object]) -> Callable[[], None]:
    """A function that passes for the one in which Python waits for threads."""
    namespace: dict[str, Any] = {"__name__": "threading", "wait": wait}
    exec("def _shutdown():\n    wait()", namespace)  # it needs another module's name
    found: Callable[[], None] = namespace["_shutdown"]
    return found


def test_the_wait_for_threads_is_broken_off(
    threads_left: Log, warned: Callable[[], list[str]]
) -> None:
    install()
    with pytest.raises(signals.Terminated):
        signal.raise_signal(signal.SIGTERM)
    signals.leave_threads_behind()
    with pytest.raises(signals.Terminated) as raised:
        shutdown_of_threading(lambda: reached(threading.Event()))()
    (said,) = warned()
    before, _, left = said.partition(": ")
    assert before == "The process ends, though threads are left"
    assert "left" in left.split(", ")  # beside what other tests have left in this process
    for each in raised.value, KeyError():
        print_unraisable(each)
    assert [type(each.exc_value) for each in threads_left] == [KeyError]


@pytest.mark.usefixtures("threads_left")
def test_whatever_else_is_not_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()
    leave = signals._leave

    def hears(*args: Any) -> None:
        leave(*args)
        heard.set()

    monkeypatch.setattr(signals, "_leave", hears)
    install()
    with pytest.raises(signals.Terminated):
        signal.raise_signal(signal.SIGTERM)
    signals.leave_threads_behind()
    reached(heard)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("has_hooks", [True, False])
def test_sigterm_breaks_it_off_where_the_main_thread_is_over(
    threads_left: Log, has_hooks: bool
) -> None:
    """Whether or not our exit hook was called then."""

    def wait() -> None:
        signal.raise_signal(signal.SIGTERM)
        reached(threading.Event())

    install()
    if has_hooks:
        signals.mark_shutdown()
    with pytest.raises(signals.Terminated) as raised:
        shutdown_of_threading(wait)()
    print_unraisable(raised.value)
    assert threads_left == []


@pytest.mark.usefixtures("threads_left")
def test_after_the_wait_for_threads_nothing_is_broken_off_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "_LAST_CHANCE", PATIENCE)
    install()
    signals.leave_no_more()  # of an alarm that is somebody else's
    signals.mark_shutdown()
    signal.raise_signal(signal.SIGTERM)
    assert signal.getitimer(signal.ITIMER_REAL)[1] == 0.0  # there may be one of pytest's
    signals._leave_soon()
    assert signal.getitimer(signal.ITIMER_REAL)[1] != 0.0
    signals.leave_no_more()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_exit_hook_of_ours_is_not_broken_off(threads_left: Log) -> None:
    """What it waits for has a deadline of its own."""
    go_on = threading.Event()
    runtime = Runtime()

    def drain() -> None:
        signals.leave_threads_behind()
        runtime.drain(0.1)
        go_on.set()
        reached(threading.Event())

    install().ask(0)
    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(reached, go_on)
    with pytest.raises(signals.Terminated):
        shutdown_of_threading(drain)()
    assert go_on.is_set()
    assert runtime.drain() == []
    assert threads_left == []


def test_after_the_wait_signals_do_what_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may go on in another thread. What Python has not set it cannot put back."""
    before = install()
    set_signal = signal.signal

    def hides_sigquit(signum: int, handler: Any) -> Any:
        previous = set_signal(signum, handler)
        return None if signum == signal.SIGQUIT else previous

    monkeypatch.setattr(signal, "signal", hides_sigquit)
    with signals.ending_at_once():
        during = signal.getsignal(signal.SIGTERM)
    assert during is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGQUIT) is during


def test_the_default_action_is_put_back_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: Log = []
    """And where there is none, as for the first process of a container, it ends all the same."""
    monkeypatch.setattr(os, "kill", lambda *args: killed.append(args))
    monkeypatch.setattr(os, "_exit", killed.append)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signals.exit_by_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert killed == [(os.getpid(), signal.SIGTERM), 128 + signal.SIGTERM]


def test_a_task_that_the_main_thread_is_at_work_on_is_not_broken_off(
    dies: Log, monkeypatch: pytest.MonkeyPatch, tellers: list[Callable[[], None]]
) -> None:
    """Neither is the package's own work there; the main thread is told again when it is done."""
    log: Log = []
    told = threading.Event()
    monkeypatch.setattr(signals, "_INSIDE", 0)
    monkeypatch.setattr(host, "signal_main_thread", lambda _: told.set())
    install()

    def task() -> None:
        signal.raise_signal(signal.SIGTERM)
        log.append("went on")

    queue = BackgroundTasks(runtime=Runtime())
    queue.add_task(task)
    in_the_releasing_thread(queue)
    assert log == ["went on"]
    with telling(tellers[0]):
        reached(told)
        with pytest.raises(signals.Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert dies == []


def test_a_handler_that_a_fork_has_copied_takes_the_default_action(
    dies: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    with signals.ending_at_once():
        monkeypatch.setattr(os, "getpid", lambda: 0)
        signal.raise_signal(signal.SIGINT)
    assert dies == [signal.SIGINT]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_runtime_asks_for_it_unless_told_not_to(wanted: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Runtime(parse_settings({"handle_sigterm": wanted})).handle_sigterm()
    assert (signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL) is wanted


@pytest.mark.parametrize("waited", [0, PATIENCE])
def test_where_a_loop_runs_it_raises_between_steps_until_the_grace_period_is_over(
    log: Log, waited: float
) -> None:
    loop = asyncio.new_event_loop()

    async def step() -> None:
        signals._Termination(lambda: True, PATIENCE)._end(waited, None)
        log.append("went on")

    with pytest.raises(signals.Terminated):
        loop.run_until_complete(step())
    loop.close()
    assert log == ["went on"] * (waited == 0)


def test_what_has_run_no_task_has_no_pending_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_applications", WeakSet())
    assert not shutdown.has_pending_work()
    runtime = Runtime()
    shutdown.register(runtime)
    assert shutdown.has_pending_work()
    monkeypatch.setattr(os, "getpid", lambda: 0)  # in a child that has not forgotten it yet
    assert not shutdown.has_pending_work()
