"""The processes of one engine: who has nothing to do gets the next task, or a new one begins."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Any
from weakref import finalize

from bgadapters.adapters import EngineUnavailableError
from bgadapters.engines.process.errors import WorkerDiedError
from bgadapters.engines.process.worker import Worker

_TO_END = 5.0  # seconds that a process gets to end by itself
_TRIES = 3  # processes that end before they have taken the task


class Pool:
    """Processes that do the same.

    How many tasks come at one time is the core's to decide, so that nobody waits here.

    Args:
        executable: the Python that they run.
        said: what each is told as it begins.
        idle: seconds after which one ends that has nothing to do.
        timeout: seconds that one may take to begin.
    """

    def __init__(
        self, executable: str, said: Mapping[str, Any], idle: float, timeout: float
    ) -> None:
        self._executable = executable
        self._said = said
        self._seconds = idle
        self._timeout = timeout
        self._lifeline, end = os.pipe()
        self._cut_lifeline = finalize(self, _close, self._lifeline, end)
        self._cut_lifeline.atexit = False  # there may be tasks to wait for
        self._changed = threading.Condition()
        self._is_closed = False  # guarded by _changed
        self._workers: set[Worker] = set()  # guarded by _changed
        self._idle: list[tuple[Worker, float]] = []  # with when it should end; guarded by _changed
        self._killed: set[Worker] = set()  # not waited for; guarded by _changed
        self._caretaker: threading.Thread | None = None  # guarded by _changed

    @asynccontextmanager
    async def place(self) -> AsyncIterator[_Place]:
        """Hold a process that is ready, for one task.

        Raises:
            EngineUnavailableError: none can be started.
        """
        place = _Place(self, await self.ready())
        try:
            yield place
        finally:
            self._give_back(place.worker)

    async def ready(self) -> Worker:
        """Return a process that has nothing to do."""
        while (worker := self._take_idle()) is not None:
            if worker.is_alive():
                return worker
            self.drop(worker)
        worker = self._start()
        try:
            async with asyncio.timeout(self._timeout):
                await worker.ready(self._said)
        except TimeoutError as exc:
            self.drop(worker)
            raise EngineUnavailableError(
                f"a process has not begun within {self._timeout:g} s"
            ) from exc
        except BaseException:
            self.drop(worker)
            raise
        return worker

    def drop(self, worker: Worker) -> None:
        """Kill a process. What it had in memory may take its time, which nobody here waits for."""
        worker.kill()
        with self._changed:
            self._workers.discard(worker)
            self._killed.add(worker)
            self._begin_to_look_after()
            self._changed.notify_all()

    def close(self) -> None:
        """End all of them, within seconds; kill those that are at work."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = {worker for worker, _ in self._idle}, []
            workers, self._workers = self._workers, set()
            self._changed.notify_all()
            killed, self._killed = self._killed | (workers - idle), set()
        for worker in killed:
            worker.kill()
        _end(idle)
        for worker in killed:
            worker.wait()
        self._cut_lifeline()

    def forget(self) -> None:
        """In a forked child: close what is the parent's, and leave the processes alone."""
        self._cut_lifeline()
        for worker in self._workers | self._killed:
            worker.forget()

    def _start(self) -> Worker:
        try:
            worker = Worker(self._executable, self._lifeline)
        except OSError as exc:
            raise EngineUnavailableError(f"a process cannot be started: {exc}") from exc
        with self._changed:
            self._workers.add(worker)
        return worker

    def _take_idle(self) -> Worker | None:
        """The one that was at work last, so that those end that are not needed."""
        with self._changed:
            return self._idle.pop()[0] if self._idle else None

    def _give_back(self, worker: Worker) -> None:
        with self._changed:
            is_kept = worker.is_free and not self._is_closed
            if is_kept:
                self._idle.append((worker, time.monotonic() + self._seconds))
                self._begin_to_look_after()
        if not is_kept:
            self.drop(worker)

    def _begin_to_look_after(self) -> None:
        if self._caretaker is None:
            thread = threading.Thread(
                target=self._look_after, name="bgadapters-processes", daemon=True
            )
            with suppress(RuntimeError):  # no more threads: they end with this process
                Context().run(thread.start)
                self._caretaker = thread

    def _look_after(self) -> None:
        """Wait for what was killed, end what is idle for long; as long as there is either."""
        while True:
            with self._changed:
                if not (self._idle or self._killed):
                    self._caretaker = None
                    return
                now = time.monotonic()
                if not self._killed and self._idle[0][1] > now:
                    self._changed.wait(self._idle[0][1] - now)
                over = {worker for worker, until in self._idle if until <= time.monotonic()}
                self._idle = [each for each in self._idle if each[0] not in over]
                self._workers -= over
                killed, self._killed = self._killed, set()
            for worker in killed:
                worker.wait()
            _end(over)


class _Place:
    """One task's hold on a process.

    Args:
        pool: the pool.
        worker: the process.

    Attributes:
        worker: the process, or that which has come in its place.
    """

    def __init__(self, pool: Pool, worker: Worker) -> None:
        self._pool = pool
        self.worker = worker

    async def __call__(self, payload: str, attempt: int) -> None:
        """Run the task.

        Raises:
            WorkerDiedError: its process has ended before it did.
            BaseException: what it has raised.
        """
        for _ in range(_TRIES):
            if await self.worker.take(payload, attempt):
                await self.worker.result()
                return
            self._pool.drop(self.worker)
            self.worker = await self._pool.ready()
        raise WorkerDiedError(f"{_TRIES} processes have ended before they had begun with it")


def _end(workers: set[Worker]) -> None:
    """Have processes end by themselves, and kill those that do not."""
    for worker in workers:
        worker.hang_up()
    until = time.monotonic() + _TO_END
    for worker in workers:
        worker.wait(max(0.0, until - time.monotonic()))
        worker.kill()
        worker.wait()


def _close(*descriptors: int) -> None:
    for each in descriptors:
        os.close(each)
