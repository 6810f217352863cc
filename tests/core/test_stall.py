"""When tasks wait and all workers are busy, one warning says so and names what runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core.drivers import pool as pools
from bgadapters.core.drivers import stall
from bgadapters.core.drivers.pool import Pool
from bgadapters.core.drivers.stall import StallWatch
from tests.core.ways import PATIENCE, Log, MakeRuntime, lines_of, reached


class Watched:
    """A pool with one worker, whose stalls are told to a test."""

    def __init__(self, seconds: float = 0.01) -> None:
        self.pool = Pool(max_workers=1)
        self.told = threading.Semaphore(0)
        self.watch = StallWatch(seconds, self.told.release, self.pool.submit_idly)
        self.pool.on_busy = self.watch.watch

    def stall(self) -> threading.Event:
        """Keep the worker busy until the event is set; returns when it is."""
        go_on, busy = threading.Event(), threading.Event()

        def hold() -> None:
            busy.set()
            reached(go_on)

        self.pool.submit(hold)
        reached(busy)
        return go_on

    def was_told(self, timeout: float = PATIENCE) -> bool:
        return self.told.acquire(timeout=timeout)

    def until_done(self) -> None:
        done = threading.Event()
        self.pool.submit(done.set)
        reached(done)


def test_it_is_told_once_for_a_stall_and_again_for_the_next() -> None:
    watched = Watched()
    for _ in range(2):
        go_on = watched.stall()
        for _ in range(3):
            watched.pool.submit(lambda: None)
        assert watched.was_told()
        watched.pool.submit(lambda: None)
        assert not watched.was_told(0.05)
        go_on.set()
        watched.until_done()


def test_one_that_was_ended_a_moment_ago_ends_no_other() -> None:
    """A late job that begins and the timer that looks at it may come at the same moment."""
    watched = Watched(seconds=3600)
    go_on = watched.stall()
    watched.pool.submit(lambda: None)
    current = watched.watch._watched
    assert current is not None
    watched.watch._end(type(current)(lambda: None, watched.watch._end))
    assert watched.watch._watched is current
    go_on.set()
    watched.until_done()


def test_what_waits_behind_a_job_that_has_begun_is_watched_next() -> None:
    """Nobody has to add anything for it."""
    watched = Watched(0.05)
    first, second = watched.stall(), threading.Event()
    watched.pool.submit(lambda: reached(second))
    watched.pool.submit(lambda: None)
    first.set()
    assert watched.was_told()
    second.set()
    watched.until_done()


def test_where_jobs_move_or_no_worker_is_busy_nothing_is_told() -> None:
    watched = Watched(0.05)
    for _ in range(20):
        watched.until_done()
    go_on = watched.stall()
    watched.pool.submit(lambda: None)
    go_on.set()
    watched.until_done()
    assert not watched.was_told(0.1)


def test_where_no_thread_can_be_had_the_job_itself_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    watched = Watched()
    go_on = watched.stall()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        watched.pool.submit(lambda: None)
    assert not watched.was_told(0.05)
    watched.pool.submit(lambda: None)  # there are threads again: this one is watched
    assert watched.was_told()
    go_on.set()
    watched.until_done()


def test_of_jobs_that_come_at_one_time_one_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = StallWatch(3600, lambda: None, lambda: None)
    made: list[pools.Job] = []

    class Slow(stall._Watched):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            if not made:
                made.append(self)
                made.append(watch.watch(job))  # as another thread does

    def job() -> None:
        """Do nothing."""

    monkeypatch.setattr(stall, "_Watched", Slow)
    assert watch.watch(job) is job
    assert isinstance(made[1], Slow)
    assert watch._watched is made[1]
    assert watch._timer.remove(made[1])


def test_a_job_that_begins_as_it_is_looked_at_is_not_kept_watched() -> None:
    """Whichever comes first, the next one that waits is watched."""
    again: Log = []
    watch = StallWatch(PATIENCE, lambda: again.append("told"), lambda: again.append("again"))
    job: object = watch.watch(lambda: None)
    watch._look(job)  # type: ignore[arg-type]  # it waits
    assert again == ["told"]
    job()  # type: ignore[operator]
    watch._look(job)  # type: ignore[arg-type]  # it has begun
    assert again == ["told", "again"]


def test_a_forked_child_watches_nothing_of_its_parents() -> None:
    watched = Watched()
    go_on = watched.stall()
    watched.watch = StallWatch(PATIENCE, watched.told.release, watched.pool.submit_idly)
    watched.pool.on_busy = watched.watch.watch
    watched.pool.submit(lambda: None)
    watched.watch.reset_after_fork()
    job = watched.watch.watch(print)
    assert job is not print
    go_on.set()
    watched.until_done()


def test_the_warning_names_what_runs_and_counts_what_waits(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    runtime = make_runtime(max_workers=2, stall_warning=0.1)
    go_on, busy = threading.Event(), threading.Semaphore(0)

    def hold() -> None:
        busy.release()
        reached(go_on)

    for number in range(2):
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.options(name=f"hangs {number}").add_task(hold)
        assert busy.acquire(timeout=PATIENCE)
    for _ in range(2):
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(print, end="")
            tasks.add_task(print, end="")
    for _ in range(1000):
        if warned():
            break
        time.sleep(0.01)
    go_on.set()
    assert runtime.drain(PATIENCE) == []
    (warning,) = warned()
    assert warning.startswith(
        "Background tasks have waited for 0.1 s or longer: 4 of them wait, and all 2 workers are"
    )
    assert "hangs 0" in warning
    assert "hangs 1" in warning


def test_it_can_be_turned_off(make_runtime: MakeRuntime) -> None:
    assert make_runtime(stall_warning=0).scheduler.pool.on_busy is None


def test_no_thread_is_left_when_nothing_waits() -> None:
    script = """
    import threading
    from bgadapters import BackgroundTasks, drain
    from bgadapters.adapters import Runtime, Settings

    runtime = Runtime(Settings(max_workers=1, stall_warning=0.7))
    for _ in range(30):
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(threading.Event().wait, 0.001)
    runtime.drain()
    for thread in threading.enumerate():
        if thread.name == "bgadapters-timer":
            thread.join()
    print([thread.name for thread in threading.enumerate()])
    """
    assert lines_of(script) == ["['MainThread', 'bgadapters-1']"]
