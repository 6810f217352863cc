"""Queues that wait for their time: not too early, bounded, and not lost without a word."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, ParamSpec, Unpack
from zoneinfo import ZoneInfo

import pytest

from bgadapters import BackgroundTasks, QueueFullError, TaskOptions
from bgadapters.adapters import FrameworkHooks, OptionNames, Runtime, WithOptions
from bgadapters.core import host
from bgadapters.core.drivers.timer import Timer
from tests.core.conftest import stop_loop
from tests.core.ways import (
    PATIENCE,
    Flavour,
    Log,
    MakeRuntime,
    lines_of,
    reached,
    starts_threads_at_exit,
)

P = ParamSpec("P")
SOON = 0.05
NEVER = 1e9  # about 30 years


class Later(BackgroundTasks):
    """A queue whose tasks all have a delay."""

    __slots__ = ("seconds",)

    seconds: float

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        self.options().add_task(func, *args, **kwargs)

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        return super().options(TaskOptions(base, **options), delay=self.seconds)


def later(runtime: Runtime, seconds: float) -> Later:
    queue = Later(runtime=runtime)
    queue.seconds = seconds
    return queue


@pytest.fixture
def stuck() -> Iterator[Runtime]:
    """A runtime whose tasks are abandoned, so that its books are not checked."""
    runtime = Runtime()
    yield runtime
    stop_loop(runtime)


@pytest.mark.parametrize("way", ["released", "awaited"])
def test_no_task_starts_before_its_time(
    runtime: Runtime, log: Log, flavour: Flavour, way: str
) -> None:
    queue = later(runtime, SOON)
    due = time.monotonic() + SOON
    queue.add_task(flavour(lambda: log.append(time.monotonic())))
    if way == "released":
        queue.release()
        queue.release()
    else:

        async def main() -> None:
            await queue()
            assert runtime.in_flight.in_use == 0  # places are for what could run
            assert await runtime.adrain(PATIENCE) == []

        asyncio.run(main())
    assert runtime.drain(PATIENCE) == []
    (started,) = log
    assert started >= due


def test_they_go_in_the_order_of_their_times(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(max_workers=1)
    for name, extra in [("c", 0.2), ("a", 0.0), ("b", 0.1), ("a too", 0.0)]:
        queue = later(runtime, SOON + extra)
        queue.add_task(log.append, name)
        queue.release()
    assert runtime.drain(PATIENCE) == []
    assert log == ["a", "a too", "b", "c"]


def test_the_thread_is_there_while_something_waits(runtime: Runtime, log: Log) -> None:
    def timers() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "bgadapters-timer" and t not in old]

    old = set(threading.enumerate())
    queue = later(runtime, SOON)
    queue.add_task(log.append, 1)
    assert timers() == []
    queue.release()
    (timer,) = timers()
    assert timer.daemon
    timer.join(PATIENCE)
    assert not timer.is_alive()
    assert runtime.drain(PATIENCE) == []
    second = later(runtime, SOON)
    second.add_task(log.append, 2)
    second.release()
    assert runtime.drain(PATIENCE) == []
    assert log == [1, 2]


def test_a_queue_without_tasks_waits_for_nothing(runtime: Runtime) -> None:
    queue = later(runtime, NEVER)
    queue.release()
    assert not queue.batch.is_running
    assert runtime.in_flight.live() == []


def test_a_discarded_one_does_not_wait(
    runtime: Runtime, log: Log, warned: Callable[[], list[str]]
) -> None:
    queue = later(runtime, NEVER)
    queue.add_task(log.append, 1)
    queue.close(KeyError("view"))
    queue.release()
    assert runtime.in_flight.live() == []
    assert len(warned()) == 1


@pytest.mark.parametrize("on_full", ["run", "reject"])
def test_what_waits_for_a_time_is_bounded_and_takes_no_place_before(
    make_runtime: MakeRuntime, log: Log, on_full: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = make_runtime(max_pending=2, on_full=on_full)
    for _ in range(2):
        queue = later(runtime, NEVER)
        queue.options(name="tomorrow").add_task(log.append, "early")
        queue.release()
    third = later(runtime, NEVER)
    with pytest.raises(QueueFullError, match=r"cannot add list\.append: 2 tasks wait for a later"):
        third.add_task(log.append, "early")
    with BackgroundTasks(runtime=runtime) as tasks:  # that of today has all of its places
        tasks.add_task(log.append, 1)
        tasks.add_task(log.append, 2)
    assert runtime.drain(PATIENCE) == ["tomorrow", "tomorrow"]
    assert log == [1, 2]
    assert runtime.scheduler.later.is_full is False


@pytest.mark.parametrize("on_full", ["run", "reject"])
def test_a_task_may_add_to_its_own_queue_when_it_was_time(
    make_runtime: MakeRuntime, log: Log, on_full: str
) -> None:
    runtime = make_runtime(max_pending=2, on_full=on_full)
    queue = later(runtime, SOON)
    queue.add_task(lambda: queue.add_task(log.append, "added"))
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert log == ["added"]


@pytest.mark.parametrize("way", ["thread", "loop", "exit"])
def test_a_drain_waits_for_what_is_due_and_names_the_rest_at_once(
    stuck: Runtime, log: Log, warned: Callable[[], list[str]], way: str
) -> None:
    for seconds, name in [(NEVER, "never"), (SOON, "soon")]:
        queue = later(stuck, seconds)
        queue.options(name=name).add_task(log.append, name)
        queue.release()
    began = time.monotonic()
    if way == "thread":
        left = stuck.drain(PATIENCE)
    elif way == "loop":
        left = asyncio.run(stuck.adrain(PATIENCE))
    else:
        left = stuck.drain_at_exit(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2  # and not until the deadline
    assert (left, log) == (["never"], ["soon"])
    (warning,) = warned()
    assert "1 background task(s) abandoned" in warning
    assert warning.endswith(": never")
    assert stuck.in_flight.live() == []


@pytest.mark.parametrize("way", ["thread", "loop", "exit"])
def test_what_is_not_due_is_named_together_with_what_did_not_finish(
    stuck: Runtime, log: Log, warned: Callable[[], list[str]], way: str
) -> None:
    hold = threading.Event()
    queue = later(stuck, NEVER)
    queue.options(name="never").add_task(log.append, 1)
    queue.release()
    with BackgroundTasks(runtime=stuck) as tasks:
        tasks.options(name="endless").add_task(reached, hold)
    if way == "thread":
        left = stuck.drain(0.01)
    elif way == "loop":
        left = asyncio.run(stuck.adrain(0.01))
    else:
        left = stuck.drain_at_exit(0.01)
    hold.set()
    assert sorted(left) == ["endless", "never"]
    assert sum("abandoned" in warning for warning in warned()) == 2


@starts_threads_at_exit
def test_at_the_end_of_the_process_what_is_due_runs_and_the_rest_is_named() -> None:
    printed = lines_of(
        """
        import logging, sys, time
        from bgadapters import BackgroundTasks
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        for seconds, name in [(0.1, "soon"), (1e6, "never")]:
            with BackgroundTasks() as queue:
                queue.options(name=name, delay=seconds).add_task(print, name)
        print("end")
        """
    )
    assert printed[0] == "end"
    assert printed[1].endswith(": never")
    assert printed[2:] == ["soon"]


@starts_threads_at_exit
def test_a_forked_child_has_a_timer_of_its_own() -> None:
    printed = lines_of(
        """
        import os, time
        import bgadapters
        from bgadapters import BackgroundTasks
        def later(seconds, what):
            with BackgroundTasks() as queue:
                queue.options(delay=seconds).add_task(print, what, flush=True)
        later(0.3, "parent")
        child = os.fork()
        if not child:
            later(0.05, "child")
            bgadapters.drain()
            os._exit(0)
        os.waitpid(child, 0)
        """,
        flags=("-W", "ignore::DeprecationWarning"),  # newer Pythons warn of threads and forks
    )
    assert sorted(printed) == ["child", "parent"]


def test_a_timer_that_was_reset_is_left_by_its_thread() -> None:
    """As a greenlet does that a fork has copied."""
    woken: list[Any] = []
    timer = Timer(10, woken.append)
    queue = BackgroundTasks()
    assert timer.add(queue.batch, time.monotonic() + NEVER)
    old = timer._changed
    thread = next(t for t in threading.enumerate() if getattr(t, "_target", None) == timer._run)
    timer.reset_after_fork()
    with old:
        old.notify()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert woken == []
    assert not timer._has_thread


@pytest.mark.parametrize("why", ["host", "system"])
def test_where_no_thread_can_be_had_the_task_is_discarded_and_named(
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
    why: str,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    queue = later(runtime, NEVER)
    queue.options(name="tomorrow").add_task(print)
    if why == "host":
        monkeypatch.setattr(host, "has_threads", lambda: False)
    else:
        monkeypatch.setattr(threading.Thread, "start", refuse)
    queue.release()
    assert warned() == [
        "1 background task(s) discarded, no thread can be started to wait for its time: tomorrow"
    ]
    assert runtime.in_flight.live() == []
    assert not queue.batch.is_running


def test_what_is_taken_while_others_wait_is_passed_over() -> None:
    woken: list[str] = []
    is_woken = threading.Event()

    def wake(what: str) -> None:
        woken.append(what)
        is_woken.set()

    timer = Timer(10, wake)
    due = time.monotonic() + 0.05
    assert timer.add("last", due)
    assert timer.add("taken", due - 0.01)
    assert timer.remove("taken")
    reached(is_woken)
    assert woken == ["last"]


BERLIN = ZoneInfo("Europe/Berlin")


class Nameless(tzinfo):
    """A zone that does not say how far it is off, so that the time is a local one."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    dst = utcoffset

    def tzname(self, _: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("now", "moment", "hours"),
    [
        # The night in which clocks in Berlin are put back from three to two, and forward.
        (datetime(2026, 10, 24, 22, 30, tzinfo=UTC), datetime(2026, 10, 25, 4, tzinfo=BERLIN), 4.5),
        (datetime(2026, 3, 29, 0, 30, tzinfo=UTC), datetime(2026, 3, 29, 4, tzinfo=BERLIN), 1.5),
        (
            datetime(2026, 10, 25, 0, 45, tzinfo=UTC),
            datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
            0.75,
        ),
        (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, 5, tzinfo=UTC), 5),
    ],
)
def test_a_time_is_one_whatever_clocks_do_until_then(
    now: datetime, moment: datetime, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", now.timestamp)
    assert seconds_until(moment) == pytest.approx(3600 * hours, abs=PATIENCE)


@pytest.mark.parametrize("zone", [None, Nameless()], ids=["naive", "of no zone"])
def test_a_time_without_a_zone_is_a_local_one(zone: tzinfo | None) -> None:
    soon = datetime.now().replace(tzinfo=zone) + timedelta(hours=1)
    assert seconds_until(soon) == pytest.approx(3600, abs=PATIENCE)


@pytest.mark.parametrize(
    "zone", [None, UTC, BERLIN, timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))]
)
def test_the_first_and_the_last_times_there_are(zone: tzinfo | None) -> None:
    assert seconds_until(datetime.min.replace(tzinfo=zone)) < -NEVER
    assert seconds_until(datetime.max.replace(tzinfo=zone)) > NEVER


def seconds_until(moment: datetime) -> float:
    runtime = Runtime(hooks=FrameworkHooks(takes_naive_times=lambda: True))
    queue = BackgroundTasks(runtime=runtime)
    queue.options(run_after=moment).add_task(print)
    (task,) = queue.batch.waiting
    queue.close(KeyError("view"))
    due = task.due()
    assert due is not None
    return due - time.monotonic()


def test_of_two_drains_each_name_is_told_by_one(stuck: Runtime) -> None:
    """The one that ends first tells of what was given up meanwhile, and nothing is forgotten."""
    for number in range(2):
        queue = later(stuck, NEVER)
        queue.options(name=str(number)).add_task(print)
        queue.release()
    first, second = (stuck.drainer._sequence(PATIENCE) for _ in range(2))
    assert (next(first), next(second)) == (PATIENCE, PATIENCE)
    told: list[list[str]] = []
    for each in (first, second):
        with pytest.raises(StopIteration) as stopped:
            each.send(True)
        told.append(stopped.value.value)
    assert [sorted(names) for names in told] == [["0", "1"], []]
