"""Worker threads come when they are needed, and keep nothing once they have done their work."""

from __future__ import annotations

import queue
import threading
import time
import weakref

import pytest

from bgadapters.core.drivers import pool as pools
from bgadapters.core.drivers.pool import Pool
from tests.core.ways import PATIENCE, Log, reached


class Argument:
    """Something that a job holds."""


def test_there_is_no_thread_before_the_first_job_and_they_are_all_daemons(log: Log) -> None:
    before = set(threading.enumerate())
    pool = Pool(max_workers=2)
    assert set(threading.enumerate()) <= before  # others may end

    done = threading.Event()

    def work() -> None:
        log.append((threading.current_thread(), pools.runs_in_worker()))
        done.set()

    pool.submit(work)
    reached(done)
    ((worker, is_worker),) = log
    assert is_worker
    assert not pools.runs_in_worker()
    assert worker.daemon  # a deadline ends a process's wait, and not a join
    assert worker.name == "bgadapters-1"


def test_an_idle_worker_is_used_before_another_is_started(log: Log) -> None:
    pool = Pool(max_workers=3)
    meeting = threading.Barrier(3)

    def meet() -> None:
        log.append(threading.current_thread().name)
        meeting.wait(PATIENCE)

    pool.submit(lambda: None)
    deadline = time.monotonic() + PATIENCE
    while not pool._idle:  # nothing tells of a thread that has begun to wait
        assert time.monotonic() < deadline
        time.sleep(0.001)
    pool.submit(meet)
    pool.submit(meet)  # and one that is spoken for counts as busy
    meeting.wait(PATIENCE)
    assert sorted(log) == ["bgadapters-1", "bgadapters-2"]


def test_a_pool_that_can_have_no_thread_says_so_and_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(max_workers=1)
    done = threading.Event()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert pool.submit(done.set) is False
        assert pool.submit(done.set) is False
    assert not done.is_set()
    assert pool.submit(done.set) is True
    reached(done)


@pytest.mark.parametrize("next_one", [False, True], ids=["last", "not last"])
def test_a_job_that_is_done_is_not_kept(next_one: bool) -> None:
    pool = Pool(max_workers=1)
    gone, hold, done = threading.Event(), threading.Event(), threading.Event()

    def submit() -> None:
        argument = Argument()
        weakref.finalize(argument, gone.set)
        pool.submit(lambda argument=argument: done.set())  # type: ignore[misc]

    submit()
    if next_one:
        pool.submit(lambda: reached(hold))
    reached(done)
    reached(gone)
    hold.set()


def test_a_forked_childs_pool_has_threads_of_its_own(log: Log) -> None:
    pool = Pool(max_workers=1)
    go_on, started, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        go_on.wait(PATIENCE)

    pool.submit(hold)
    reached(started)
    pool.submit(lambda: log.append("the parent's"))
    pool.reset_after_fork()
    pool.submit(done.set)  # by a new thread: the one there was is not here any more
    reached(done)
    assert log == []
    go_on.set()


def test_every_worker_cleans_up_when_it_is_told_to() -> None:
    cleaned: list[int] = []
    pool = Pool(3, on_idle=lambda: cleaned.append(threading.get_ident()))
    pool.idle(1)
    assert cleaned == []

    def side_by_side(jobs: int) -> None:
        together = threading.Barrier(jobs + 1)

        def job() -> None:
            together.wait(PATIENCE)

        for _ in range(jobs):
            pool.submit(job)
        together.wait(PATIENCE)

    side_by_side(2)
    for _ in range(2):
        cleaned.clear()
        pool.idle(PATIENCE)
        assert len(set(cleaned)) == 2
    side_by_side(3)  # a worker that were counted as idle twice would keep the third from starting


def test_a_worker_that_is_busy_does_not_hold_up_the_others_for_long() -> None:
    cleaned = threading.Semaphore(0)
    pool = Pool(2, on_idle=cleaned.release)
    may_end, started = threading.Event(), threading.Semaphore(0)

    def job() -> None:
        started.release()
        may_end.wait(10)

    pool.submit(job)
    pool.submit(started.release)
    started.acquire()
    started.acquire()
    pool.idle(0.01)
    may_end.set()
    for _ in range(2):
        assert cleaned.acquire(timeout=10)


def test_a_pool_with_nothing_to_clean_up_does_not_wait() -> None:
    pool = Pool(1)
    pool.idle(1)


def test_a_worker_with_nothing_to_do_cleans_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE", 0.01)
    cleaned = threading.Semaphore(0)
    pool = Pool(1, on_idle=cleaned.release)
    done = threading.Event()
    pool.submit(lambda: None)
    assert cleaned.acquire(timeout=10)
    pool.submit(done.set)
    assert done.wait(10)
    assert cleaned.acquire(timeout=10)


def test_the_threads_there_are_do_the_work_of_those_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(max_workers=3)
    go_on, done = threading.Event(), threading.Event()
    assert pool.submit(lambda: reached(go_on))

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert pool.submit(done.set)
    assert not done.is_set()
    go_on.set()
    reached(done)


def test_a_pool_has_no_more_threads_than_it_may_and_uses_idle_ones() -> None:
    pool = Pool(max_workers=2)
    names: Log = []
    meeting = threading.Barrier(3)

    def meet() -> None:
        names.append(threading.current_thread().name)
        meeting.wait(PATIENCE)

    for _ in range(2):
        pool.submit(meet)
        pool.submit(meet)
        meeting.wait(PATIENCE)
    for _ in range(3):  # one more than there are threads: it waits its turn
        pool.submit(lambda: names.append(threading.current_thread().name))
    last = threading.Event()
    pool.submit(last.set)
    reached(last)
    assert set(names) == {"bgadapters-1", "bgadapters-2"}


def test_a_worker_to_which_another_one_was_faster_counts_as_idle(log: Log) -> None:
    waits = threading.Event()

    class Unsure(queue.SimpleQueue[pools.Job]):
        def empty(self) -> bool:
            return False  # as it was when the worker asked

        def get(self, block: bool = True, timeout: float | None = None) -> pools.Job:
            if log:
                waits.set()
            return super().get(block, timeout)

    pool = Pool(2)
    pool._jobs = Unsure()
    done = threading.Event()
    pool.submit(lambda: log.append(threading.current_thread().name))
    reached(waits)
    assert pool.busy == 0

    def work() -> None:
        log.append(threading.current_thread().name)
        done.set()

    pool.submit(work)
    reached(done)
    assert log == ["bgadapters-1"] * 2
