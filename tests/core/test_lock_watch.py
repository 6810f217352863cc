"""Who looks at the workers, and when; what it measures on real threads."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from bgadapters.core import host
from bgadapters.core.drivers import lock_meter
from bgadapters.core.drivers.lock_meter import NO_CLOCK, Burned, Meter, clock_of_this_thread
from bgadapters.core.drivers.lock_watch import LockWatch, Look
from bgadapters.core.drivers.switching import SHORT
from bgadapters.core.model.batch import Batch
from tests.core.test_holders import burns, task_of
from tests.core.ways import PATIENCE, reached

needs_clocks = pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid") or not os.path.exists("/proc/thread-self/schedstat"),
    reason="the system has no such clocks",
)


class Steps:
    """What measures, at the pace of a test.

    Attributes:
        burned: what each clock says.
        elsewhere: what the other threads have burned.
    """

    def __init__(self) -> None:
        self.burned: dict[int, Burned] = {}
        self.elsewhere = 0.0
        self.closed = threading.Event()
        self.fault: BaseException | None = None
        self._turns: queue.SimpleQueue[bool | None] = queue.SimpleQueue()
        self._is_over = False

    def __call__(self) -> Steps:
        return self

    def step(self, is_contested: bool = True) -> None:
        """Let the watch look once more."""
        self._turns.put(is_contested)

    def end(self) -> None:
        """Let it look for as long as it likes."""
        self._turns.put(None)

    def pause(self) -> bool:
        """Wait for the test."""
        if self.fault is not None:
            raise self.fault
        if not self._is_over:
            turn = self._turns.get(timeout=PATIENCE)
            self._is_over = turn is None
            return bool(turn)
        return False

    def read(self, clocks: Sequence[int]) -> dict[int, Burned]:
        """Tell what the test has set."""
        return {clock: self.burned.get(clock, Burned(0.0, False)) for clock in clocks}

    def others(self) -> float:
        """Tell what the test has set."""
        return self.elsewhere

    def close(self) -> None:
        """Tell the test."""
        self.closed.set()


class Watched:
    """A watch, its looks, and workers for it."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.looks: queue.SimpleQueue[Look] = queue.SimpleQueue()
        self.checks = self.has_line = False
        self.watch = LockWatch(self.judge, self.steps)

    def judge(self, look: Look) -> tuple[bool, bool]:
        self.looks.put(look)
        return self.checks, self.has_line

    def look(self, is_contested: bool = True) -> Look:
        self.steps.step(is_contested)
        return self.looks.get(timeout=PATIENCE)

    @contextmanager
    def worker(self, batch: Batch | None = None) -> Iterator[tuple[Batch, int]]:
        """A thread that runs a batch as long as the block."""
        entered, over, left = (threading.Event() for _ in range(3))
        clocks: list[int] = []
        batch = batch or batch_that_runs()

        def run() -> None:
            clocks.append(self.watch.enter(batch))
            entered.set()
            over.wait(PATIENCE)
            self.watch.leave(clocks[0])
            left.set()

        threading.Thread(target=run, daemon=True).start()
        reached(entered)
        try:
            yield batch, clocks[0]
        finally:
            over.set()
            reached(left)


def batch_that_runs() -> Batch:
    batch = Batch()
    batch.add(task_of(burns))
    batch.release(lambda: None)
    batch.take(False)
    return batch


@pytest.fixture
def usual() -> Iterator[None]:
    """How often threads change places is as it was, after the test."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def watched() -> Iterator[Watched]:
    yield (made := Watched())
    made.steps.end()


def watchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "bgadapters-lock-watch"]


def until_none_watches() -> None:
    deadline = time.monotonic() + PATIENCE
    while watchers():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _nobody_watches_yet() -> None:
    """The threads of tests before this one end by themselves, a little later."""
    until_none_watches()


def wait_until_it_has_ended(watched: Watched) -> None:
    reached(watched.steps.closed)
    until_none_watches()


@needs_clocks
def test_one_worker_at_work_is_not_watched(watched: Watched) -> None:
    with watched.worker():
        assert not watchers()
    with watched.worker(), watched.worker(), watched.worker():
        assert len(watchers()) == 1


@needs_clocks
def test_what_a_task_burns_between_two_looks_is_seen(watched: Watched) -> None:
    with watched.worker() as (batch, clock), watched.worker() as (_, other):
        first = watched.look()
        assert {worker.batch for worker in first.workers} >= {batch}
        watched.steps.burned = {clock: Burned(0.5, False), other: Burned(0.25, True)}
        watched.steps.elsewhere = 1.0
        seen = watched.look(is_contested=False)
        assert not seen.is_contested
        assert seen.seconds > 0
        by_batch = {each.batch: each for each in seen.workers}
        assert by_batch[batch].burned == 0.5
        assert by_batch[batch].task is batch.running
        assert by_batch[batch].is_same
        assert by_batch[batch].waited == 0.0
        assert seen.needed == 0.5
        assert seen.elsewhere == 0.25
        quiet = watched.look()
        assert (quiet.needed, quiet.elsewhere) == (0.0, 0.0)


@needs_clocks
def test_who_waits_for_the_lock_is_not_idle_while_its_holder_waits_for_a_processor(
    watched: Watched,
) -> None:
    """As on a machine that has more to do than it can."""
    with watched.worker() as (batch, clock), watched.worker() as (_, other):

        def waited(is_contested: bool) -> float:
            (worker,) = [each for each in watched.look(is_contested).workers if each.batch is batch]
            return worker.waited

        watched.look()
        watched.steps.burned = {clock: Burned(0.5, False), other: Burned(0.0, False)}
        assert waited(True) == 0.0
        assert waited(True) == 0.0  # nothing was burned
        watched.steps.burned[other] = Burned(1e-6, False)
        assert waited(True) == pytest.approx(1e-6)
        watched.steps.elsewhere += 1e-6
        assert waited(True) == pytest.approx(2e-6)
        watched.steps.burned[other] = Burned(2.0, True)  # the lock may be anyone's meanwhile
        assert waited(True) == pytest.approx(2e-6)
        assert waited(False) > 3e-6  # nobody waits for the lock: it waits for something else


@needs_clocks
def test_another_task_in_the_same_worker_begins_anew(watched: Watched) -> None:
    with watched.worker() as (batch, clock), watched.worker():
        watched.look()
        watched.look()
        batch.running = None  # between two tasks there is nothing to blame
        assert batch not in {each.batch for each in watched.look().workers}
        batch.running, batch.started = task_of(burns), time.monotonic()
        watched.steps.burned[clock] = Burned(0.5, False)
        (new,) = [each for each in watched.look().workers if each.batch is batch]
        assert not new.is_same


@needs_clocks
def test_the_watch_ends_after_a_while_in_which_one_worker_or_none_is_at_work(
    watched: Watched,
) -> None:
    with watched.worker(), watched.worker():
        watched.look()
    watched.steps.end()
    wait_until_it_has_ended(watched)


@needs_clocks
def test_it_goes_on_where_a_batch_waits_for_its_turn_or_workers_come_back(
    watched: Watched,
) -> None:
    watched.has_line = True
    with watched.worker(), watched.worker():
        watched.look()
    for _ in range(50):
        watched.look()
    watched.has_line = False
    for _ in range(19):
        watched.look()
    with watched.worker(), watched.worker():
        watched.look()
    for _ in range(19):
        watched.look()
    assert len(watchers()) == 1


@needs_clocks
def test_who_comes_as_the_watch_ends_is_watched(watched: Watched) -> None:
    """Nothing is lost between its last look and its end."""
    with watched.worker(), watched.worker():
        watched.look()
    held = watched.worker(), watched.worker()

    def judge(look: Look) -> tuple[bool, bool]:
        watched.looks.put(look)
        if watched.looks.qsize() == 20:  # the last of the looks at nobody
            for each in held:
                each.__enter__()
        return False, False

    watched.watch._judge = judge
    for _ in range(20):
        watched.steps.step()
    deadline = time.monotonic() + PATIENCE
    while watched.looks.qsize() < 20:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    watched.steps.step()
    while watched.looks.qsize() < 21:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert len(watchers()) == 1
    for each in held:
        each.__exit__(None, None, None)


@needs_clocks
def test_nothing_of_a_task_is_kept_while_the_watch_sleeps(watched: Watched) -> None:
    batch = batch_that_runs()
    gone = threading.Event()
    weakref.finalize(batch, gone.set)
    with watched.worker():
        with watched.worker(batch):
            watched.look()
            watched.look()
        del batch
        watched.looks = queue.SimpleQueue()
        reached(gone)


@needs_clocks
def test_batches_are_checked_once_a_holder_is_known(watched: Watched) -> None:
    with watched.worker() as (before, _), watched.worker():
        watched.checks = True
        watched.look()
        watched.look()  # what the first one has led to is in place
        with watched.worker() as (batch, _):
            assert batch.is_checked
        assert not before.is_checked


@needs_clocks
def test_a_fault_of_the_watch_is_told_and_it_comes_back(
    watched: Watched, errors: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.steps.fault = KeyError("a fault")
    with watched.worker(), watched.worker():
        wait_until_it_has_ended(watched)
        assert errors() == ["Watching the interpreter's lock has failed"]
        with watched.worker():  # not at once
            assert not watchers()
        watched.steps.fault = None
        monkeypatch.setattr(watched.watch, "_not_before", 0.0)
        with watched.worker():
            watched.look()


@needs_clocks
def test_where_no_file_or_no_thread_can_be_had_nobody_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_file() -> Meter:
        ended.set()
        raise OSError(24, "Too many open files")

    def no_thread(_: threading.Thread) -> None:
        ended.set()
        raise RuntimeError("can't start new thread")

    for measures, start in (no_file, host.start_thread), (Steps(), no_thread):
        ended = threading.Event()
        watched = Watched()
        watched.watch = LockWatch(watched.judge, measures)
        with monkeypatch.context() as patched:
            with watched.worker():
                patched.setattr(host, "start_thread", start)
                watched.watch.enter(batch_that_runs())
                reached(ended)
            deadline = time.monotonic() + PATIENCE
            while watched.watch._has_thread:
                assert time.monotonic() < deadline
                time.sleep(0.001)


@needs_clocks
def test_a_forked_child_closes_what_measures_and_watches_nobody(watched: Watched) -> None:
    with watched.worker(), watched.worker():
        watched.look()
        watched.watch.reset_after_fork()
        assert watched.steps.closed.is_set()
        watched.steps.end()
        wait_until_it_has_ended(watched)
        with watched.worker():
            assert not watched.watch._has_thread


def test_where_there_is_no_clock_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    clocks: list[int] = []
    monkeypatch.setattr(lock_meter, "_SCHEDSTAT", "/nowhere")
    for _ in range(2):
        thread = threading.Thread(target=lambda: clocks.append(watched.watch.enter(Batch())))
        thread.start()
        thread.join(PATIENCE)
    assert clocks == [NO_CLOCK, NO_CLOCK]
    assert not watchers()


def test_a_worker_with_a_clock_beside_one_without_is_not_watched(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where gevent has patched a process late."""
    monkeypatch.setattr(lock_meter, "_SCHEDSTAT", "/nowhere")
    with watched.worker():
        monkeypatch.undo()
        with watched.worker():
            assert not watchers()


@needs_clocks
def test_a_clock_can_be_had_where_threads_share_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_of_this_thread() != NO_CLOCK
    with monkeypatch.context() as patched:
        patched.setattr(host, "threads_are_greenlets", lambda: True)
        assert clock_of_this_thread() == NO_CLOCK
    for is_enabled in True, False:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "_is_gil_enabled", lambda: is_enabled, raising=False)  # noqa: B023
            assert (clock_of_this_thread() != NO_CLOCK) is is_enabled
    with monkeypatch.context() as patched:
        patched.delattr(time, "pthread_getcpuclockid")
        assert clock_of_this_thread() == NO_CLOCK


@contextmanager
def in_a_thread(work: Callable[[], object]) -> Iterator[int]:
    """Have a thread do something again and again; yields its clock."""
    begun, over = threading.Event(), threading.Event()
    clocks: list[int] = []

    def run() -> None:
        clocks.append(clock_of_this_thread())
        begun.set()
        while not over.is_set():
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    reached(begun)
    try:
        yield clocks[0]
    finally:
        over.set()
        thread.join(PATIENCE)


def compute() -> None:
    for _ in range(10_000):
        pass


@needs_clocks
@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize(
    ("interval", "after", "short", "long"),
    [
        (0.005, 0.005, 0.002, 0.004),
        (SHORT, SHORT, SHORT * 0.4, SHORT * 0.8),
        (0.005, SHORT, SHORT * 0.4, SHORT * 0.8),
    ],
)
def test_how_long_a_wait_for_the_lock_is_goes_by_how_often_threads_change_places(
    interval: float, after: float, short: float, long: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_meter, "INTERVAL", 0.0)
    meter = Meter()
    now = 0.0

    def is_contested(waited: float) -> bool:
        nonlocal now
        sys.setswitchinterval(interval)
        now += waited
        return meter.pause()

    def accounted(_: int) -> tuple[float, float]:
        sys.setswitchinterval(after)
        return now, 0.0

    monkeypatch.setattr(meter, "_accounted", accounted)
    is_contested(0.0)
    assert not is_contested(short)
    assert is_contested(long)
    meter.close()


@needs_clocks
def test_whether_the_lock_is_to_be_had_is_told_on_real_threads() -> None:
    meter = Meter()
    found = [meter.pause() for _ in range(20)]
    with in_a_thread(compute), in_a_thread(compute):
        meter.pause()
        taken = [meter.pause() for _ in range(20)]
    meter.close()
    assert sum(taken) > 2 * sum(found)
    assert not meter.pause()  # a fork has closed it
    meter.close()


@needs_clocks
def test_who_burns_without_the_lock_is_told_on_real_threads() -> None:
    """A look misses it at times, as the thread that looks may be in its way."""
    data = os.urandom(1 << 20)
    meter = Meter()
    with in_a_thread(lambda: zlib.compress(data)) as packing:
        deadline = time.monotonic() + 3 * PATIENCE
        while not looked(meter, packing).is_free:
            assert time.monotonic() < deadline
    with in_a_thread(compute) as computing:
        before = looked(meter, computing).seconds
        free = [looked(meter, computing).is_free for _ in range(50)]
        assert looked(meter, computing).seconds > before
    assert meter.others() > 0
    meter.close()
    assert sum(free) < 25


def looked(meter: Meter, clock: int) -> Burned:
    meter.pause()
    return meter.read([clock])[clock]


@needs_clocks
def test_a_thread_that_has_ended_burns_nothing() -> None:
    with in_a_thread(compute) as clock:
        pass
    deadline = time.monotonic() + PATIENCE
    meter = Meter()
    while meter.read([clock])[clock].seconds:  # it is joined before the system has let it go
        assert time.monotonic() < deadline
    meter.close()
