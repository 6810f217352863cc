"""What one application runs with: settings, workers, loop, backlog, hooks."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from bgadapters.core import drain, host, rehearsal, signals
from bgadapters.core.backlog import Backlog
from bgadapters.core.current import owner
from bgadapters.core.events import Events, names
from bgadapters.core.exceptions import NOT_A_FIELD
from bgadapters.core.pool import Pool
from bgadapters.core.settings import Settings
from bgadapters.core.timer import Timer

if TYPE_CHECKING:
    from bgadapters.core.gate import Gate
    from bgadapters.core.ownloop import Loop
    from bgadapters.core.probe import Probe
    from bgadapters.core.queue import BackgroundTasks
    from bgadapters.core.task import Task

logger = logging.getLogger("bgadapters")

_SILENCE = 1.0  # seconds that the end of a process may take without a word
_CANCEL_GRACE = 1.0  # seconds that cancelled async tasks get for their clean-up


class Runtime:
    """One application's workers and policies; applications in one process share none of it.

    Nothing is started before the first task is released.

    Args:
        settings: see `Settings`. Default: its defaults.
        scope: entered around each sync task, inside the task's context.
        ascope: entered around each async task, inside the task's context. Default: ``scope``.
        snapshot: called by ``add_task`` before it copies the context, to leave in context
            variables what a framework keeps elsewhere.
        gates_of: called by ``add_task`` for what the task has to wait for, besides its response,
            if the setting ``on_commit`` is on.
        rest: called in a worker thread that has had nothing to do for a while, and in all of them
            when a drain has found nothing left.
        bridge: how tasks keep to the thread of a test. Default: they need not.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        scope: Callable[[], AbstractContextManager[Any]] | None = None,
        ascope: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        snapshot: Callable[[], None] | None = None,
        gates_of: Callable[[BackgroundTasks], Iterable[Gate]] | None = None,
        rest: Callable[[], None] | None = None,
        bridge: rehearsal.Bridge | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.scope = scope
        self.ascope = _as_async(scope) if ascope is None and scope is not None else ascope
        self.snapshot = snapshot
        self.gates_of = gates_of if self.settings.on_commit else None
        self.bridge = bridge
        self.rejects = self.settings.on_full == "reject"
        self.is_strict = self.settings.strict_portable
        self.events = Events(self.settings.on_event, self.settings.on_error)
        self.backlog = Backlog(self.settings.max_pending)
        self.timer = Timer(self.settings.max_pending, self._start_due)
        self._pool = Pool(self.settings.max_workers, rest)
        self._loop_lock = threading.Lock()
        self._loop: Loop | None = None  # guarded by _loop_lock
        self._threads_refused = False
        self.probe = _probe()
        _warn_of_a_shorter_deadline(self.settings.drain_timeout)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: object) -> None:
        """Refuse: pydantic asks for this where FastAPI does not see that it is a dependency."""
        raise TypeError(NOT_A_FIELD)

    @property
    def loop(self) -> Loop:
        """The event loop for async tasks where the server has none."""
        from bgadapters.core.ownloop import Loop

        with self._loop_lock:
            if self._loop is None:
                self._loop = Loop()
            return self._loop

    def handle_sigterm(self) -> None:
        """Have SIGTERM drain where it would kill this process, unless a setting says not to.

        Called when an application is set up, for only the main thread can do it.
        """
        if self.settings.handle_sigterm:
            signals.end_on_sigterm(drain.is_at_stake, self.settings.drain_timeout)

    def start(self, queue: BackgroundTasks) -> None:
        """Let a queue that was just released run, from whatever thread this is."""
        if loop_runs_here():
            self.spawn(queue)
        elif rehearsal.audience is not None:
            self._enter(queue)
            self._run_here(queue)
        elif self._enter(queue) or owner.get() is not None:
            self.resume(queue)
        else:
            # Full: this thread does the work, and so cannot bring more of it meanwhile.
            self._run_here(queue)

    def spawn(self, queue: BackgroundTasks, at_once: bool = False) -> None:
        """Let a queue that was just released run, its async tasks on this thread's event loop.

        Its first tasks may begin before this returns if the caller waits for them, ``at_once``.

        Raises:
            RuntimeError: there is none of asyncio.
        """
        from bgadapters.core.loop import go_home

        if not loop_runs_here():
            self._discard(queue, "no event loop of asyncio is running")
            raise RuntimeError(
                "background tasks are run by asyncio, and no event loop of asyncio is running "
                "here; trio is not supported. In tests that use the pytest plugin of anyio, let "
                "the fixture anyio_backend return 'asyncio'."
            )
        self._enter(queue)
        go_home(queue, at_once)

    def start_later(self, queue: BackgroundTasks, due: float) -> None:
        """Let a queue that was just released run from a time on.

        Args:
            queue: it counts in the backlog once it is due. A drain waits for it if that is before
                its deadline.
            due: the time, as `time.monotonic` tells it.
        """
        drain.watch(self)
        self.backlog.enter(queue)
        if not self.timer.add(queue, due):
            self._discard(queue, "no thread can be started to wait for its time")

    def _discard(self, queue: BackgroundTasks, why: str) -> None:
        """Give up a queue that was released and cannot run here."""
        self.events.discarded(queue._abandon(), why)
        queue._finish()

    def _start_due(self, queue: BackgroundTasks) -> None:
        self.backlog.reserve(len(queue))
        queue._slots = len(queue)
        self.resume(queue)

    def resume(self, queue: BackgroundTasks) -> None:
        """Run the rest of a queue in the worker threads."""
        from bgadapters.core.runner import run

        job = partial(run, queue)
        if not self._pool.submit(job, queue.priority):
            self.say_that_there_are_no_threads()
            job()

    def say_that_there_are_no_threads(self) -> None:
        """Warn, once, that requests wait for tasks."""
        if not self._threads_refused:
            self._threads_refused = True
            logger.warning(
                "No worker thread can be started here, so background tasks run in the thread that "
                "releases them; requests will wait for them%s",
                "" if host.threads_run() else ". Set enable-threads in uWSGI",
            )

    def room(self, queue: BackgroundTasks) -> None:
        """Wait in this thread until the backlog has places for a queue, and take them."""
        has_room = threading.Event()
        while not self._try_reserve(queue, has_room.set):
            has_room.wait()
            has_room.clear()

    async def aroom(self, queue: BackgroundTasks) -> None:
        """Wait without blocking until the backlog has places for a queue, and take them."""
        if not self._try_reserve(queue):
            from bgadapters.core.waiting import wait_until

            await wait_until(partial(self._try_reserve, queue))

    async def aroom_for_one(self) -> None:
        """Wait without blocking until the backlog has a place for one more task."""
        from bgadapters.core.waiting import wait_until

        await wait_until(self._has_room_for_one)

    def _has_room_for_one(self, waker: Callable[[], object]) -> bool:
        if not self.backlog.try_reserve(1, waker):
            return False
        self.backlog.free(1)
        return True

    def drain(self, timeout: float | None = None) -> list[str]:
        """Wait until every released task has finished, then give up on the rest.

        Args:
            timeout: seconds. Default: the setting ``drain_timeout``.

        Returns:
            The names of the tasks that were abandoned; they were logged at WARNING.
        """
        timeout = self.settings.drain_timeout if timeout is None else timeout
        abandoned = self._give_up_what_is_not_due(timeout)
        if self.backlog.wait_idle(timeout):
            self._pool.rest(_CANCEL_GRACE)
            return abandoned
        abandoned += self.give_up(timeout)
        self.backlog.wait_idle(_CANCEL_GRACE)
        self.backlog.disown_abandoned()
        return abandoned

    def drain_at_exit(self, timeout: float, quietly: bool = False) -> list[str]:
        """Do as `drain` when the process ends: nobody else will run the loops that have stopped.

        Unless ``quietly``, a WARNING says after a second what is waited for.
        """
        silence = timeout if quietly else min(timeout, _SILENCE)
        abandoned = self._give_up_what_is_not_due(timeout)
        if self._wait_at_exit(silence):
            return abandoned
        if timeout > silence:
            left = self._left()
            logger.warning(
                "The process ends when %d background task(s) have finished, or in %.3g s; "
                "Ctrl-C, twice, ends it at once: %s",
                len(left),
                timeout - silence,
                names(left),
            )
            if self._wait_at_exit(timeout - silence):
                return abandoned
        abandoned += self.give_up(timeout)
        self._wait_at_exit(_CANCEL_GRACE)
        self.backlog.disown_abandoned()
        return abandoned

    async def adrain(self, timeout: float | None = None) -> list[str]:
        """Do as `drain`, without blocking the event loop."""
        from bgadapters.core.waiting import wait_until, within

        timeout = self.settings.drain_timeout if timeout is None else timeout
        abandoned = self._give_up_what_is_not_due(timeout)
        if await within(timeout, wait_until(self.backlog.is_idle)):
            return abandoned
        abandoned += self.give_up(timeout)
        await within(_CANCEL_GRACE, wait_until(self.backlog.is_idle))
        self.backlog.disown_abandoned()
        return abandoned

    def forget(self) -> None:
        """In a forked child: drop what belongs to the parent's threads."""
        for queue in self.backlog.reset():
            queue._tasks.clear()  # greenlets live on in the child, and would run them again
        self._pool.reset()
        self.timer.reset()
        self._loop_lock = threading.Lock()
        self._loop = None

    def _enter(self, queue: BackgroundTasks) -> bool:
        """Put a queue into the backlog; tell whether there was room."""
        drain.watch(self)
        missing = len(queue) - queue._slots
        queue._slots += missing
        return self.backlog.enter(queue, missing)

    def _try_reserve(
        self, queue: BackgroundTasks, waker: Callable[[], object] | None = None
    ) -> bool:
        missing = len(queue) - queue._slots
        if missing > 0:
            if not self.backlog.try_reserve(missing, waker):
                return False
            queue._slots += missing
        return True

    def _run_here(self, queue: BackgroundTasks) -> None:
        from bgadapters.core.runner import run

        run(queue)
        self.backlog.wait_gone(queue)

    def give_up(self, timeout: float, queues: Iterable[BackgroundTasks] | None = None) -> list[str]:
        """Abandon the tasks of all queues or of these, ``timeout`` seconds having been too few."""
        queues = self.backlog.live() if queues is None else queues
        left = [task for queue in queues for task in queue._abandon()]
        if left:
            self.events.abandoned(left, timeout)
        return [task.name for task in left]

    def _give_up_what_is_not_due(self, timeout: float) -> list[str]:
        """Abandon the tasks whose time comes later than ``timeout`` seconds from now."""
        queues = self.timer.take_after(time.monotonic() + timeout)
        abandoned = self.give_up(timeout, queues)
        for queue in queues:
            queue._finish()
        return abandoned

    def _left(self) -> list[Task]:
        return [task for queue in self.backlog.live() for task in queue._left()]

    def _wait_at_exit(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        if any(queue._home is not None for queue in self.backlog.live()):
            from bgadapters.core.loop import run_stopped

            run_stopped(self.backlog, timeout)
        return self.backlog.wait_idle(max(0.0, deadline - time.monotonic()))


def _warn_of_a_shorter_deadline(drain_timeout: float) -> None:
    patience = host.patience()
    if patience is not None and patience < drain_timeout:
        logger.warning(
            "The server gives a process that ends %.3g s, less than drain_timeout, %.3g s: "
            "tasks that take longer would be lost without a word. Raise worker-reload-mercy "
            "and reload-mercy, or lower drain_timeout",
            patience,
            drain_timeout,
        )


def _probe() -> Probe | None:
    """What `bgadapters.check` needs of a process that has opted in."""
    token = os.environ.get("BGADAPTERS_CHECK_TOKEN")
    if not token:
        return None
    from bgadapters.core.probe import Probe

    return Probe(token)


def _as_async(
    scope: Callable[[], AbstractContextManager[Any]],
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def ascope() -> AsyncIterator[None]:
        with scope():
            yield

    return ascope


def loop_runs_here() -> bool:
    """Whether an event loop is running in this thread."""
    asyncio = sys.modules.get("asyncio")  # not imported, no loop
    if asyncio is None:
        return False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    # Under gevent the loop of one greenlet seems to be running in all of them: asyncio keeps it
    # by the thread of the system, while base_events notes the one that threading knows.
    return getattr(loop, "_thread_id", None) in {None, threading.get_ident()}


_default_lock = threading.Lock()
_default: Runtime | None = None  # guarded by _default_lock


def default_runtime() -> Runtime:
    """The runtime of queues that belong to no configured application: one per process."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Runtime()
        return _default
