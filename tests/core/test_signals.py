"""SIGTERM drains where it would have killed; another signal ends the drain at once."""

from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, parse_settings
from bgadapters.core import host
from bgadapters.core.process import shutdown, signals
from tests.core.ways import PATIENCE, Log, reached

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
    server.signal(signal.SIGTERM)
    server.hear("forgotten", "forgotten")
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
    server.hear("start first", "died of 15")
    for _ in range(2):
        server.say()
    assert server.end()[:2] == (0, "end first\nstart second\nend second\n")


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
    for function in (
        lambda: signals.end_on_sigterm(lambda: True, 1),
        signals.end_at_once_from_now_on,
    ):
        thread = threading.Thread(target=function)
        thread.start()
        thread.join(PATIENCE)
    monkeypatch.setattr(host, "owns_signals", lambda: True)
    signals.end_on_sigterm(lambda: True, 1)
    signals.end_at_once_from_now_on()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_sub_interpreter_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    monkeypatch.setattr(signal, "signal", refuse)
    signals.end_on_sigterm(lambda: True, 1)
    signals.end_at_once_from_now_on()
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
    signals.end_at_once_from_now_on()
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
    signals.end_at_once_from_now_on()
    monkeypatch.setattr(signals, "_SAME_SIGNAL", 0)
    signal.raise_signal(signum)
    assert dies == [signum]


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

    runtime = Runtime(parse_settings({"max_pending": 1}))
    runtime.in_flight.reserve(1)  # full, so that this thread runs the task
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(task)
    queue.release()
    assert log == ["went on"]
    with telling(tellers[0]):
        reached(told)
        with pytest.raises(signals.Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert dies == []


def test_a_handler_that_a_fork_has_copied_takes_the_default_action(
    dies: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals.end_at_once_from_now_on()
    monkeypatch.setattr(os, "getpid", lambda: 0)
    signal.raise_signal(signal.SIGINT)
    assert dies == [signal.SIGINT]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_runtime_asks_for_it_unless_told_not_to(wanted: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Runtime(parse_settings({"handle_sigterm": wanted})).handle_sigterm()
    assert (signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL) is wanted


def test_what_has_run_no_task_has_no_pending_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "_applications", WeakSet())
    assert not shutdown.has_pending_work()
    runtime = Runtime()
    shutdown.register(runtime)
    assert shutdown.has_pending_work()
    monkeypatch.setattr(os, "getpid", lambda: 0)  # in a child that has not forgotten it yet
    assert not shutdown.has_pending_work()
