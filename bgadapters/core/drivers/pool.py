"""Worker threads: started when first needed, bounded, forgotten by a forked child."""

from __future__ import annotations

import heapq
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from bgadapters.core import host
from bgadapters.core.model import guard

Job = Callable[[], None]
IDLE = 2.0  # seconds
_CLEAN_UP = "The clean-up of an idle worker"


def _placeholder() -> None:
    """Stands in the FIFO for a job that is in the heap; it is never called."""


def _nothing() -> None:
    """A job that only waits."""


_here = threading.local()


def runs_in_worker() -> bool:
    """Whether this is a worker thread of a pool, which is nobody else's."""
    return getattr(_here, "is_worker", False)


def _taken(jobs: queue.SimpleQueue[Job]) -> Job | None:
    """Take a job that waits, if there is one.

    That is asked first: most workers find none, and the exception costs as much as to run a task.
    """
    if jobs.empty():
        return None
    try:
        return jobs.get_nowait()
    except queue.Empty:  # another worker was faster
        return None


_Ranked = tuple[int, int, Job]  # minus its priority, its number, and the job


class Pool:
    """Threads that call jobs, each as soon as one of them is free.

    Jobs wait in a FIFO. One with a priority waits in a heap, for which there is a placeholder in
    the FIFO, and so do all that come while there is anything in the heap. So the FIFO holds jobs,
    then placeholders, as many as there are jobs in the heap. Where nobody asks for a priority
    there is only the FIFO, and that is what it costs.

    They are daemons: it is the drain that waits for their work, and only as long
    as its deadline says; ``threading`` would join others without end.

    Args:
        max_workers: the threads there are, at most.
        on_idle: called by a worker that has had nothing to do for ``IDLE`` seconds, to put away
            what it keeps from job to job. Default: nothing is called.
        name: of the threads, before their number. Default: the package's.

    Attributes:
        on_busy: called where all workers are busy with a job that has to wait; returns what is
            to wait in its place. Default: the job waits.
    """

    on_busy: Callable[[Job], Job] | None = None

    def __init__(
        self, max_workers: int, on_idle: Job | None = None, name: str = "bgadapters"
    ) -> None:
        self._name = name
        self._max_workers = max_workers
        self._on_idle = on_idle
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start without threads and jobs: at first, and in a forked child, which inherits none."""
        self._lock = threading.RLock()  # as signal handlers submit too
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._heap: list[_Ranked] = []  # guarded by _lock
        self._numbers = count()
        self._earlier = count(-(2**62))  # for jobs that were in the FIFO before all of those
        self._workers = 0  # guarded by _lock
        self._idle = 0  # workers that wait and are not spoken for; guarded by _lock

    @property
    def busy(self) -> int:
        """The number of workers that are at work, or about to be."""
        with self._lock:
            return self._workers - self._idle

    def primitives(self) -> tuple[type, type]:
        """The types of lock and FIFO in use, by which a late patch of gevent's shows."""
        return type(self._lock), type(self._jobs)

    def submit(self, job: Job, priority: int = 0) -> bool:
        """Have ``job`` called by a worker; False where there is none and none can be started.

        Of the jobs that wait, those with a higher priority go first.
        """
        with self._lock:
            is_claimed = self._idle > 0
            self._idle -= is_claimed
        if not is_claimed:
            is_started = self._start_worker()
            if is_started is None:
                return False
            if not is_started and self.on_busy is not None:
                job = self.on_busy(job)
        if priority or self._heap:
            with self._lock:
                heapq.heappush(self._heap, (-priority, next(self._numbers), job))
                job = _placeholder
        self._jobs.put(job)
        return True

    def submit_idly(self) -> None:
        """If jobs wait, have one more wait, which does nothing: it tells ``on_busy`` of that."""
        if not self._jobs.empty():
            self.submit(_nothing)

    def _start_worker(self) -> bool | None:
        """Start one more; False where those there are have to do, None where there are none."""
        if not host.has_threads():
            return None
        with self._lock:
            if self._workers >= self._max_workers:
                return False
            self._workers += 1
            number = self._workers
        try:
            host.start_thread(
                threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True)
            )
        except RuntimeError:  # no more threads: a limit of the system, or the interpreter is ending
            with self._lock:
                self._workers -= 1
                return False if self._workers else None
        return True

    def _work(self) -> None:
        _here.is_worker = True
        jobs = self._jobs
        job = jobs.get()  # a new worker is spoken for: it was started for a job
        while True:
            if self._heap and self._jobs is jobs:
                job = self._most_urgent(job)
            try:
                job()
            except BaseException as exc:  # or this worker would be gone and still be counted
                message = "A worker thread has caught what it should not"
                guard.log(logging.ERROR, message, exc_info=exc)
            del job  # or a worker that waits would keep the last queue alive
            found = _taken(jobs)
            if found is None:
                with self._lock:
                    if self._jobs is not jobs:  # a greenlet that a fork has copied
                        return
                    self._idle += 1
                found = self._wait(jobs)
            job, found = found, None

    def _wait(self, jobs: queue.SimpleQueue[Job]) -> Job:
        if self._on_idle is not None:
            with suppress(queue.Empty):
                return jobs.get(timeout=IDLE)
            guard.call(self._on_idle, doing=_CLEAN_UP)
        return jobs.get()

    def _most_urgent(self, taken: Job) -> Job:
        """Take from the heap what goes before that which was taken from the FIFO."""
        with self._lock:
            if taken is _placeholder:
                return heapq.heappop(self._heap)[2]
            return heapq.heappushpop(self._heap, (0, next(self._earlier), taken))[2]

    def idle(self, timeout: float) -> None:
        """Have every worker clean up now, and wait until all have or ``timeout`` seconds are over.

        For the time in which nothing runs: each worker that has cleaned up waits for the others.
        """
        on_idle = self._on_idle
        if on_idle is None:
            return
        with self._lock:
            workers = self._workers
            self._idle = 0  # all are spoken for: there is one job for each
        everyone = threading.Barrier(workers + 1)

        def meet() -> None:
            with suppress(threading.BrokenBarrierError):
                everyone.wait(timeout)

        def clean_up_together() -> None:
            guard.call(on_idle, doing=_CLEAN_UP)
            meet()

        for _ in range(workers):
            self._jobs.put(clean_up_together)
        meet()
