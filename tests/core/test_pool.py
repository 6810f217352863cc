"""Worker threads come when they are needed, and keep nothing once they have done their work."""

from __future__ import annotations

import queue
import threading
import time
import weakref

import pytest

from bgadapters.core.drivers import pool as pools
from bgadapters.core.drivers.pool import Pool
from tests.core.ways import PATIENCE, Log, lines_of, reached


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

    done = threading.Event()
    pool.submit(done.set)
    reached(done)
    deadline = time.monotonic() + PATIENCE
    while pool.busy:  # nothing tells of a thread that has begun to wait
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


def test_no_worker_is_started_to_clean_up_for_one_that_is_busy() -> None:
    """It would take the turn of that one."""
    names: list[str] = []
    pool = Pool(3, on_idle=lambda: names.append(threading.current_thread().name))
    may_end, started = threading.Event(), threading.Barrier(3)

    def job() -> None:
        started.wait(PATIENCE)
        reached(may_end)

    def short_job() -> None:
        started.wait(PATIENCE)

    pool.submit(job)
    pool.submit(short_job)
    started.wait(PATIENCE)
    idle = threading.Thread(target=pool.idle, args=(PATIENCE,))
    idle.start()
    deadline = time.monotonic() + PATIENCE
    while not names:  # the free one has cleaned up, and waits for the busy one
        assert time.monotonic() < deadline
        time.sleep(0.001)
    may_end.set()
    idle.join()
    assert sorted(names) == ["bgadapters-1", "bgadapters-2"]


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


_INTERRUPTED = """
import faulthandler, sys, threading, time
from bgadapters.core import host
from bgadapters.core.drivers import pool as pools

faulthandler.dump_traceback_later(50, exit=True)  # which names what has stopped for good
steps_of = {pools.__file__, host.start_thread.__code__.co_filename}
priority = int(sys.argv[1])

class Interrupt(BaseException):
    pass

def interrupted(submit, at):
    '''Raise, as a signal handler does, after so many steps of ``submit``; tell whether so.

    Of threading's own steps these are the calls: in the middle of them its locks would stay held.
    '''
    left = [at]

    def trace(frame, event, arg):
        file = frame.f_code.co_filename
        frame.f_trace_opcodes = file in steps_of
        if event == "opcode" or (event == "call" and file == threading.__file__):
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        submit()
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False

def settle(pool):
    while pool.busy:  # nothing tells of a thread that has begun to wait
        time.sleep(0)

def nothing():
    pass

def with_no_worker(pool):
    pass

def with_one_that_waits(pool):
    done = threading.Event()
    pool.submit(done.set)
    done.wait()
    settle(pool)

def with_one_at_work(pool):
    pool.submit(may_end.wait)

def with_a_job_that_waits(pool):
    pool.submit(may_end.wait)
    pool.submit(may_end.wait, 1)
    pool.submit(may_end.wait, 1)

for prepare in with_no_worker, with_one_that_waits, with_one_at_work, with_a_job_that_waits:
    for workers in 1, 2:
        at = 0
        while True:
            pool, may_end = pools.Pool(workers), threading.Event()
            pool.on_busy = lambda job: job
            prepare(pool)
            was_interrupted = interrupted(lambda: pool.submit(nothing, priority), at)
            may_end.set()
            together = threading.Barrier(workers + 1, timeout=20)
            for _ in range(workers):
                pool.submit(together.wait)
            together.wait()
            settle(pool)
            assert 1 <= len(pool._workers) <= workers, (prepare, at)
            assert not pool._starting and not pool._heap, (prepare, at)
            jobs = pool._jobs
            pool.reset_after_fork()  # which lets the threads end
            for _ in range(workers):
                jobs.put(nothing)
            if not was_interrupted:
                break
            at += 1
        print(prepare.__name__, at > 30)
"""


@pytest.mark.slow
@pytest.mark.parametrize("priority", [0, 1])
def test_a_signal_that_breaks_a_submission_off_costs_no_worker(priority: int) -> None:
    lines = lines_of(_INTERRUPTED, str(priority))
    assert len(lines) == 8
    assert all(line.endswith("True") for line in lines)


def _interrupted_start(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> threading.Thread:
    """Return the thread of a worker that a signal handler has kept from being started."""
    started: list[threading.Thread] = []

    def interrupt(thread: threading.Thread) -> None:
        started.append(thread)
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(SystemExit):
            pool.submit(lambda: None)
    return started[0]


def test_a_worker_whose_start_a_signal_has_broken_off_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, done = Pool(1), threading.Event()
    _interrupted_start(pool, monkeypatch)
    assert pool.busy == 0
    pool.submit(done.set)
    reached(done)


def test_a_worker_that_begins_although_its_start_was_broken_off_is_one_of_the_pool(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    pool, done = Pool(1), threading.Event()
    thread = _interrupted_start(pool, monkeypatch)
    thread.start()
    while not pool._workers:  # nothing tells of a thread that has begun
        time.sleep(0.001)
    pool.submit(lambda: log.append(threading.current_thread()))
    pool.submit(done.set)
    reached(done)
    assert log == [thread]


def test_it_ends_where_another_one_has_begun_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, done = Pool(1), threading.Event()
    thread = _interrupted_start(pool, monkeypatch)
    pool.submit(done.set)
    reached(done)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_placeholder_that_a_signal_has_kept_out_is_put_in_again(log: Log) -> None:
    class Interrupted(queue.SimpleQueue[pools.Job]):
        was_interrupted = False

        def put(self, item: pools.Job, block: bool = True, timeout: float | None = None) -> None:
            super().put(item, block, timeout)
            if item is pools._placeholder and not self.was_interrupted:
                self.was_interrupted = True
                raise KeyboardInterrupt

    pool, done = Pool(1), threading.Event()
    pool._jobs = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        pool.submit(lambda: log.append(1), priority=1)
    pool.submit(done.set)
    reached(done)
    assert log == [1]


class _Seen(queue.SimpleQueue[pools.Job]):
    """The FIFO of a pool, of which another thread sees more for a moment."""

    seen = 0

    def qsize(self) -> int:
        seen, self.seen = self.seen, 0
        return seen or super().qsize()


def test_two_threads_that_miss_the_same_worker_start_one() -> None:
    pool = Pool(4)
    pool._jobs = jobs = _Seen()
    hold, busy, done = threading.Event(), threading.Semaphore(0), threading.Event()

    def work() -> None:
        busy.release()
        reached(hold)

    pool.submit(work)
    assert busy.acquire(timeout=PATIENCE)
    pool.submit(work)
    assert busy.acquire(timeout=PATIENCE)
    hold.set()
    while pool.busy:
        time.sleep(0.001)
    jobs.seen = 9
    pool.submit(done.set)
    reached(done)
    assert len(pool._workers) == 2
    assert not pool._starting


@pytest.mark.parametrize("watches", [None, False, True])
def test_a_job_that_was_put_in_beside_a_worker_that_left_is_watched(watches: bool | None) -> None:
    """The worker was about to take another one, and still seemed to wait."""
    pool = Pool(1)
    asked: list[pools.Job] = []
    done, watched = threading.Event(), threading.Event()

    def on_busy(job: pools.Job) -> pools.Job:
        asked.append(job)
        return watched.set if watches else job

    class Late(_Seen):
        def get(self, block: bool = True, timeout: float | None = None) -> pools.Job:
            job = super().get(block, timeout)
            self.seen = 1
            return job

    if watches is not None:
        pool.on_busy = on_busy
    pool._jobs = Late()
    pool.submit(done.set)
    reached(done)
    if watches:
        reached(watched)
    assert len(asked) == (watches is not None)
