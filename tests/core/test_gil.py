"""What holds the interpreter's lock is told from what merely uses a processor."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

import pytest

from bgadapters.core import host
from bgadapters.core.drivers import gil
from bgadapters.core.drivers.gil import Evidence, GilWatch, Window, key_of
from bgadapters.core.model.options import DEFAULT_OPTIONS
from bgadapters.core.model.task import Task


def window(
    waited: float = 0.0,
    others: float = 0.0,
    present: dict[Any, int] | None = None,
    **used: Any,
) -> Window:
    here = dict.fromkeys(used, 2) if present is None else present
    return Window(gil.WINDOW + waited, waited, used, here, others)


HELD, FREE = 0.005, 0.0


def test_what_is_at_work_while_the_lock_is_waited_for_holds_it() -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence.add(window(HELD, computes=0.01, sleeps=0.0001))
    assert evidence.holders == {"computes"}
    assert evidence.share("computes") == 1.0
    assert evidence.share("sleeps") == 0.0


def test_one_window_is_not_enough() -> None:
    evidence = Evidence()
    evidence.add(window(HELD, computes=0.01))
    assert not evidence.holders


def test_what_was_seen_to_let_go_is_not_blamed_for_what_runs_beside_it() -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence.add(window(FREE, zlib=0.01))
    for _ in range(30):
        evidence.add(window(HELD, zlib=0.01, computes=0.01))
    assert evidence.holders == {"computes"}


def test_of_two_that_were_never_apart_both_are_to_blame_until_they_are() -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence.add(window(HELD, zlib=0.01, computes=0.01))
    assert evidence.holders == {"zlib", "computes"}
    for _ in range(5):
        evidence.add(window(FREE, zlib=0.01))
    assert evidence.holders == {"computes"}


def test_a_view_may_have_held_it() -> None:
    evidence = Evidence()
    for _ in range(9):
        evidence.add(window(HELD, others=0.01, zlib=0.01))
    assert not evidence.holders


def test_what_has_changed_its_ways_is_judged_anew() -> None:
    evidence = Evidence()
    for _ in range(1000):
        evidence.add(window(HELD, changes=0.01))
    for _ in range(150):
        evidence.add(window(FREE, changes=0.01))
    assert not evidence.holders


def test_the_share_is_what_it_computes_of_the_time_that_it_takes() -> None:
    evidence = Evidence()
    for _ in range(3):
        evidence.add(window(HELD, renders_and_sends=0.01))
    for _ in range(40):
        evidence.add(window(FREE, present={"renders_and_sends": 1}))
        evidence.add(window(HELD, present={"renders_and_sends": 2}))  # one waits for the other
    for _ in range(10):
        evidence.add(window(HELD, present={"renders_and_sends": 1}, renders_and_sends=0.015))
    assert 0.2 < evidence.share("renders_and_sends") < 0.35


def test_a_share_fades() -> None:
    evidence = Evidence()
    for _ in range(400):
        evidence.add(window(HELD, present={"changes": 1}, changes=0.015))
    assert evidence.share("changes") == 1.0
    for _ in range(1000):
        evidence.add(window(FREE, present={"changes": 1}))
    assert evidence.share("changes") < 0.2


def test_so_many_functions_are_remembered() -> None:
    evidence = Evidence()
    for number in range(1000):
        for _ in range(3):
            evidence.add(window(HELD, present={}, **{f"f{number}": 0.01}))
    assert len(evidence.holders) <= 256
    assert "f999" in evidence.holders


def task_of(func: Callable[..., Any]) -> Task:
    return Task(func, (), None, copy_context(), DEFAULT_OPTIONS)


class Callables:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


def test_a_function_is_known_by_its_code() -> None:
    plain = key_of(task_of(Callables.method))
    assert plain is Callables.method.__code__
    assert key_of(task_of(Callables().method)) is plain
    assert key_of(task_of(partial(partial(Callables.method, Callables())))) is plain
    assert key_of(task_of(Callables())) is Callables
    assert key_of(task_of(print)) is type(print)


def compute(until: threading.Event) -> None:
    while not until.is_set():
        sum(range(100))


def compress(until: threading.Event) -> None:
    data = bytes(range(256)) * 4000
    while not until.is_set():
        zlib.compress(data)


def run_until(
    is_known: Callable[[Any], object],
    watch: GilWatch,
    func: Callable[[threading.Event], None],
    threads: int,
) -> None:
    """Run a function in some threads, as workers do, until this is known of it."""
    until, task = threading.Event(), task_of(func)

    def work() -> None:
        watch.note(task)
        func(until)
        watch.note_end()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    watch.begin()
    for each in workers:
        each.start()
    deadline = time.monotonic() + 60
    key = key_of(task)
    while not is_known(key) and time.monotonic() < deadline:
        time.sleep(0.01)
    until.set()
    for each in workers:
        each.join()
    assert is_known(key)


needs_a_way_to_look = pytest.mark.skipif(
    not gil._can_look(), reason="there is no way to look at the lock here"
)


@needs_a_way_to_look
def test_python_code_holds_the_lock_and_compression_does_not() -> None:
    watch = GilWatch()
    run_until(watch.evidence.share, watch, compute, 2)
    run_until(watch.evidence.is_cleared, watch, compress, 1)
    deadline = time.monotonic() + 60
    while watch.is_on and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not watch.is_on
    assert not any(thread.name == "bgadapters-gil" for thread in threading.enumerate())


@needs_a_way_to_look
def test_a_forked_child_has_nobody_who_looks() -> None:
    watch = GilWatch()
    states = [watch.is_on]
    for step in watch.begin, watch.begin, watch.reset_after_fork, watch.begin:
        step()
        states.append(watch.is_on)
    assert states == [False, True, True, False, True]


def test_without_a_thread_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(gil, "_can_look", lambda: True)
    monkeypatch.setattr(host, "start_thread", refuse)
    watch = GilWatch()
    watch.begin()
    assert not watch.is_on


def test_where_the_lock_cannot_be_looked_at_nobody_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gil, "_can_look", lambda: False)
    watch = GilWatch()
    watch.begin()
    assert not watch.is_on


def test_a_thread_that_has_ended_uses_nothing() -> None:
    most = 2**22  # threads have lower numbers on Linux, which makes the clock's of the thread's
    assert gil._cpu_time(~most << 3 | 6) == 0.0
