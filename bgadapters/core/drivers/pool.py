"""Worker threads: started when first needed, bounded, forgotten by a forked child."""

from __future__ import annotations

import heapq
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

from bgadapters.core import host
from bgadapters.core.model import guard

Job = Callable[[], None]
IDLE = 2.0  # seconds
_CLEAN_UP = "The clean-up of an idle worker"


def _placeholder() -> None:
    """Stands in the FIFO for a job that is in the heap. It does nothing where there is none."""


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

    A signal handler may submit, or raise, in the middle of a submission. So a submission locks
    nothing and counts nothing: each of its steps leaves what is true. A worker says of itself that
    it is there, and that it waits. A job whose submission was broken off before the start of a
    worker for it waits for one that is free, or for the next submission.

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
        self._lock = threading.RLock()
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._heap: list[_Ranked] = []
        self._numbers = count()
        self._earlier = count(-(2**62))  # for jobs that were in the FIFO before all of those
        # The numbers of workers:
        self._starting: set[int] = set()  # that have not begun
        self._workers: set[int] = set()  # that have; each adds itself, with _lock held
        self._waiting: set[int] = set()  # that wait for a job; each adds and removes itself
        self._is_cleaning_up = False

    @property
    def busy(self) -> int:
        """The number of workers that are at work, or about to be."""
        free = max(0, len(self._waiting) - self._jobs.qsize())
        return len(self._workers | self._starting) - free

    def primitives(self) -> tuple[type, type]:
        """The types of lock and FIFO in use, by which a late patch of gevent's shows."""
        return type(self._lock), type(self._jobs)

    def submit(self, job: Job, priority: int = 0) -> bool:
        """Have ``job`` called by a worker; False where there is none and none can be started.

        Of the jobs that wait, those with a higher priority go first.
        """
        if not self._workers and self._start_worker(1) is None:
            return False
        is_busy = self._is_full and self._lacks_workers(1)
        if is_busy and self.on_busy is not None:
            job = self.on_busy(job)
        if priority or self._heap:
            self._put_in_heap(job, priority)
        else:
            self._jobs.put(job)
        if not is_busy and self._lacks_workers():
            self._start_worker()
        return True

    def _put_in_heap(self, job: Job, priority: int) -> None:
        try:
            heapq.heappush(self._heap, (-priority, next(self._numbers), job))
            self._jobs.put(_placeholder)
        except BaseException:  # a signal handler's: one placeholder too many does no harm
            self._jobs.put(_placeholder)
            raise

    def submit_idly(self) -> None:
        """If jobs wait, have one more wait, which does nothing: it tells ``on_busy`` of that."""
        if not self._jobs.empty():
            self.submit(_nothing)

    @property
    def _is_full(self) -> bool:
        return len(self._workers) + len(self._starting) >= self._max_workers

    def _lacks_workers(self, more: int = 0) -> bool:
        """Whether more jobs wait, with so many more, than workers that have nothing else to do.

        A worker that has just taken a job still counts as one that waits. It asks this itself when
        it counts no longer. So whoever puts a job into the FIFO, and asks this then, need not lock.
        """
        return self._jobs.qsize() + more > len(self._waiting) + len(self._starting)

    def _start_worker(self, more: int = 0) -> bool | None:
        """Start one more; False where those there are have to do, None where there are none."""
        if not host.has_threads():
            return None
        if self._is_full:
            return False
        worker = next(self._numbers)
        try:
            self._starting.add(worker)
            earlier = sorted(self._starting).index(worker)
            if self._jobs.qsize() + more <= len(self._waiting) + earlier:
                self._starting.discard(worker)  # another thread was faster to start one
                return True
            name = f"{self._name}-{len(self._workers) + len(self._starting)}"
            work = partial(self._work, worker, self._jobs)
            host.start_thread(threading.Thread(target=work, name=name, daemon=True))
        except RuntimeError:  # no more threads: a limit of the system, or the interpreter is ending
            self._starting.discard(worker)
            return False if self._workers or self._starting else None
        except BaseException:  # a signal handler's: nobody knows whether the thread will begin
            self._starting.discard(worker)
            raise
        return True

    def _work(self, worker: int, jobs: queue.SimpleQueue[Job]) -> None:
        _here.is_worker = True
        if not self._begin(worker, jobs):
            return
        job: Job | None = self._wait(worker, jobs)
        while job is not None:
            if (job is _placeholder or self._heap) and self._jobs is jobs:
                job = self._most_urgent(job)
            try:
                job()
            except BaseException as exc:  # or this worker would be gone and still be counted
                message = "A worker thread has caught what it should not"
                guard.log(logging.ERROR, message, exc_info=exc)
            del job  # or a worker that waits would keep the last queue alive
            job = self._next(worker, jobs)

    def _begin(self, worker: int, jobs: queue.SimpleQueue[Job]) -> bool:
        """A thread was started; False if there are enough, as another one has begun meanwhile."""
        with self._lock:
            if self._jobs is not jobs or len(self._workers) >= self._max_workers:
                self._starting.discard(worker)
                return False
            self._workers.add(worker)
            self._waiting.add(worker)
            self._starting.discard(worker)
            return True

    def _next(self, worker: int, jobs: queue.SimpleQueue[Job]) -> Job | None:
        job = _taken(jobs)
        if job is not None or self._jobs is not jobs:  # it is a greenlet that a fork has copied
            return job
        self._waiting.add(worker)
        return self._wait(worker, jobs)

    def _wait(self, worker: int, jobs: queue.SimpleQueue[Job]) -> Job:
        job = self._given(jobs)
        self._waiting.discard(worker)
        if self._lacks_workers() and not self._is_cleaning_up:
            guard.call(self._see_to_the_others, doing="Starting a worker")
        return job

    def _see_to_the_others(self) -> None:
        """More jobs wait than workers."""
        if self._start_worker() is False and self.on_busy is not None:
            watched = self.on_busy(_nothing)
            if watched is not _nothing:
                self._jobs.put(watched)

    def _given(self, jobs: queue.SimpleQueue[Job]) -> Job:
        if self._on_idle is not None:
            with suppress(queue.Empty):
                return jobs.get(timeout=IDLE)
            guard.call(self._on_idle, doing=_CLEAN_UP)
        return jobs.get()

    def _most_urgent(self, taken: Job) -> Job:
        """Take from the heap what goes before that which was taken from the FIFO."""
        if taken is not _placeholder:
            return heapq.heappushpop(self._heap, (0, next(self._earlier), taken))[2]
        with suppress(IndexError):  # it was taken already
            return heapq.heappop(self._heap)[2]
        return taken

    def idle(self, timeout: float) -> None:
        """Have every worker clean up now, and wait until all have or ``timeout`` seconds are over.

        For the time in which nothing runs: each worker that has cleaned up waits for the others.
        """
        on_idle = self._on_idle
        if on_idle is None:
            return
        workers = len(self._workers | self._starting)
        everyone = threading.Barrier(workers + 1)

        def meet() -> None:
            with suppress(threading.BrokenBarrierError):
                everyone.wait(timeout)

        def clean_up_together() -> None:
            guard.call(on_idle, doing=_CLEAN_UP)
            meet()

        self._is_cleaning_up = True  # there is one job for each, and none needs another worker
        try:
            for _ in range(workers):
                self._jobs.put(clean_up_together)
            meet()
        finally:
            self._is_cleaning_up = False
