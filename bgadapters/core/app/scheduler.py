"""Where a batch runs: the only place that decides it."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ParamSpec
from weakref import WeakMethod

from bgadapters.core import host
from bgadapters.core.app.admission import Admission
from bgadapters.core.app.later import Later
from bgadapters.core.app.notices import Notices
from bgadapters.core.control.turns import Turns
from bgadapters.core.drivers.base import Execution
from bgadapters.core.drivers.in_flight import InFlight
from bgadapters.core.drivers.inline import InlineDriver
from bgadapters.core.drivers.lock_watch import LockWatch
from bgadapters.core.drivers.loops import loop_runs_here, running_loop
from bgadapters.core.drivers.pool import Pool, runs_in_worker
from bgadapters.core.drivers.stall import StallWatch
from bgadapters.core.drivers.threads import ThreadDriver
from bgadapters.core.drivers.time_limit import TimeLimits
from bgadapters.core.model import mode
from bgadapters.core.model.batch import BEGINS, NOTHING, Batch, Effects
from bgadapters.core.model.batch_state import DONE
from bgadapters.core.model.context import on_behalf_of, task_running_here
from bgadapters.core.model.errors import QueueFullError
from bgadapters.core.model.events import Events, names
from bgadapters.core.model.hooks import FrameworkHooks
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.settings import Settings
from bgadapters.core.model.task import Task, Wait
from bgadapters.core.process import fork, signals

if TYPE_CHECKING:
    from bgadapters.core.drivers.background_loop import BackgroundLoop
    from bgadapters.core.drivers.origin_loop import LoopDriver

P = ParamSpec("P")

_LOOPS = "bgadapters.core.drivers.origin_loop"
_BACKGROUND = "bgadapters.core.drivers.background_loop"
_NEVER_RELEASED = (
    "their queue was never released: the server or an adapter did not close the response, "
    "or a BackgroundTasks() was neither used in a 'with' block nor released"
)


class Scheduler:
    """Releases and starts batches, for one application.

    Args:
        settings: those of the application.
        hooks: those of its framework.
        events: what is told of its tasks.
        register: called before a batch starts, to have the end of the process wait for it.
        give_up_loop: called with an event loop that is about to be closed.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: FrameworkHooks,
        events: Events,
        register: Callable[[], None],
        give_up_loop: Callable[[Any], None],
    ) -> None:
        self._settings = settings
        self._drain_timeout = settings.drain_timeout
        self._register = register
        self._is_registered = False
        self._ends_with_the_request = False  # told when it is registered
        self._give_up_loop = give_up_loop
        self._events = events
        self.in_flight = InFlight(settings.max_pending)
        self.later = Later(settings.max_pending, self._start_due)
        self.notices = Notices(settings, self.in_flight)
        self.pool = Pool(settings.max_workers, hooks.on_idle)
        tell = _if_alive(WeakMethod(self.notices.tasks_wait))
        self.time_limits = TimeLimits(events)
        self._stall = StallWatch(settings.stall_warning, tell, self.pool.submit_idly)
        if settings.stall_warning:
            self.pool.on_busy = self._stall.watch
        self.execution = Execution(
            events,
            hooks,
            self.in_flight,
            self.to_threads,
            self.to_loop,
            self.release,
            self.try_again,
        )
        to_worker = partial(self.to_threads, goes_first=True)
        self.turns = Turns(
            self.execution, settings.concurrency, self.resume, to_worker, self.later.remove
        )
        self.execution.turns = self.turns
        self.admission = Admission(settings, self.in_flight, self.later, self.turns, self.notices)
        self.lock_watch = LockWatch(self.turns.judge)
        self.threads = ThreadDriver(self.execution, self.pool, self.lock_watch)
        self.inline = InlineDriver(self.execution)
        self._may_miss_forks = host.hides_forks()
        self._lock = threading.RLock()
        self._background: BackgroundLoop | None = None  # guarded by _lock
        self.on_lost = self._tell_of_lost  # bound once: each batch has it

    @cached_property
    def loops(self) -> LoopDriver:
        """Runs batches on event loops. Made when one is there: it imports asyncio."""
        import_whole(_LOOPS)
        from bgadapters.core.drivers.loop_watch import LoopWatch
        from bgadapters.core.drivers.origin_loop import LoopDriver

        seconds = self._settings.stall_warning
        tell = _if_alive(WeakMethod(self.notices.loop_is_held))
        watch = LoopWatch(seconds, tell, self.in_flight.live) if seconds else None
        return LoopDriver(self.execution, self._give_up_loop, self._drain_timeout, watch)

    @property
    def background(self) -> BackgroundLoop:
        """The loop for async tasks where the server has none. Made when the first one comes."""
        import_whole(_BACKGROUND)
        from bgadapters.core.drivers.background_loop import BackgroundLoop

        with self._lock:
            if self._background is None:
                self._background = BackgroundLoop(self.loops)
            return self._background

    # The end of a response.

    def release(self, batch: Batch, again: Callable[[], object] | None = None) -> None:
        """Let the tasks of a batch run; does not wait for them.

        Args:
            batch: the batch.
            again: releases it when a precondition was resolved. Default: this method.
        """
        effects = self._release(batch, again or partial(self.release, batch))
        if effects is BEGINS:
            self.start(batch)
        elif effects is not NOTHING:
            self._perform(batch, effects)

    def release_awaited(self, batch: Batch, again: Callable[[], object]) -> Sequence[Batch]:
        """Let the tasks of a batch run, for one on an event loop who is to wait until they have.

        Args:
            batch: the batch.
            again: as for `release`.

        Returns:
            What has not finished and is to be waited for.

        Raises:
            RuntimeError: the running event loop is not asyncio's.
        """
        effects = self._release(batch, again) if batch.preconditions else batch.release(again)
        if effects is NOTHING:
            return (batch,) if batch.is_unfinished else ()
        loop = running_loop()
        if loop is None and effects.begins:
            self._refuse(batch, "no event loop of asyncio is running")
            raise RuntimeError(
                "background tasks are run by asyncio, and no event loop of asyncio is running "
                "here; trio is not supported. In tests that use the pytest plugin of anyio, let "
                "the fixture anyio_backend return 'asyncio'."
            )
        if effects is BEGINS:
            self.start(batch, loop, True)
            return (batch,) if batch.state is not DONE else ()
        self._perform(batch, effects, at_once=True)
        # In tests times are due at once, which is known by now.
        apart = [each for each in effects.apart if each.due is None]
        return [each for each in (batch, *apart) if each.is_unfinished]

    def flush(self, batch: Batch, origin_loop: Any = None) -> None:
        """Let what a batch holds so far run now, although it is not released.

        Args:
            batch: the batch.
            origin_loop: the event loop that its async tasks belong to. Default: that which runs
                here; where none does, that which all such tasks share.

        Raises:
            QueueFullError: too many of the tasks that were flushed before wait.
        """
        waiting = sum(len(each) for each in (*batch.earlier(), batch))
        limit = self._settings.max_pending
        if waiting > limit:
            raise QueueFullError(
                f"cannot flush: {waiting} tasks of this queue would wait (max_pending is "
                f"{limit}). Flush less often than tasks finish, or raise max_pending or "
                "max_workers."
            )
        first = batch.flush()
        if first is not None:
            first.origin_loop = origin_loop
            self.release(first)

    def _release(self, batch: Batch, again: Callable[[], object]) -> Effects:
        """Release a batch. One that has to wait for a precondition counts as unfinished."""
        if not batch.preconditions:  # as nearly always
            return batch.release(again)
        self._register_once()
        if loop_runs_here():  # its async tasks belong here, whoever lets it go on
            batch.origin_loop = running_loop()
        # Before it is released: then another thread may let it go on at any moment.
        self.in_flight.hold(batch)
        effects = batch.release(again)
        self.admission.leave_unless_unfinished(batch)
        return effects

    def discard(
        self,
        batch: Batch,
        exception: BaseException,
        since: int = 0,
        which: Callable[[Task], bool] | None = None,
    ) -> None:
        """The response failed: discard what was added, except ``always`` tasks.

        Args:
            batch: the batch.
            exception: why it failed.
            since: how many tasks it held when the part that failed began; they stay.
            which: tells whether a task is of the part that failed. Default: all are.
        """
        self.execution.perform(batch, batch.discard(exception, since, which), exception)

    def close(self, batch: Batch, exception: BaseException) -> None:
        """No response comes of it: discard the tasks and run those added with ``always=True``."""
        self.discard(batch, exception)
        if not batch.close_if_empty():
            self.release(batch)

    def _tell_of_lost(self, batch: Batch, effects: Effects) -> None:
        """Tell of the tasks of a batch that nobody has released. The garbage collector calls it."""
        tasks = effects.discarded
        self.in_flight.free_later(effects.freed)
        self._events.discarded(batch, tasks, _NEVER_RELEASED)
        warnings.warn(
            f"{len(tasks)} background task(s) never ran ({names(tasks)}): {_NEVER_RELEASED}",
            ResourceWarning,
            stacklevel=3,
        )

    def _perform(self, batch: Batch, effects: Effects, at_once: bool = False) -> None:
        self.execution.perform(batch, effects)
        first = [each for each in effects.apart if each.priority > batch.priority]
        if effects.apart:
            mode.active.before_release(effects.apart, self)
        for each in first:
            self.release(each)
        if effects.begins:
            self.start(batch, at_once=at_once and not first)  # else it would begin before those
        for each in effects.apart[len(first) :]:
            self.release(each)

    # Where a batch runs.

    def start(self, batch: Batch, loop: Any = None, at_once: bool = False) -> None:
        """Let a batch run that was just released, from whatever thread this is.

        Args:
            batch: the batch.
            loop: the event loop that runs here. Default: it is looked for.
            at_once: whether its first tasks may begin before this returns, as the caller is about
                to wait for them, on a loop.
        """
        active = mode.active
        if active is not mode.SERVING and active.intercepts(batch, self):
            self.admission.leave_unless_unfinished(batch)
            return
        if batch.due is not None:
            self._start_later(batch, batch.due)
            return
        fits = self.enter(batch)
        loop = loop or running_loop()
        if loop is not None:
            self.loops.begin(batch, loop, at_once)
        elif self._ends_with_the_request:
            self.inline.run(batch)
        else:
            if fits or task_running_here() is not None or runs_in_worker():
                self.resume(batch)
                return
            with signals.reaching_the_server():
                self.resume(batch)
                self.admission.hold_up(batch)

    def to_threads(self, batch: Batch, goes_first: bool = False) -> None:
        """Let a batch go on whose next task, if there is one, is a sync one.

        Args:
            batch: the batch.
            goes_first: as for `ThreadDriver.start`.
        """
        if not self.threads.start(batch, goes_first):
            self._say_that_there_are_no_threads()
            self.threads.run(batch)

    def to_loop(self, batch: Batch) -> None:
        """Let a batch go on whose next task is an async one."""
        origin = batch.origin_loop
        if origin is not None:
            if self.loops.start_on(origin, batch):
                return
            batch.origin_loop = None  # it was closed
        if _may_be_importing(_BACKGROUND) and _started(partial(self.threads.run, batch)):
            return
        if not self._start_on_background_loop(batch):
            self._say_that_there_are_no_threads()
            self.inline.run(batch)

    def _start_on_background_loop(self, batch: Batch) -> bool:
        try:
            return self.background.start(batch)
        except OSError:  # no file descriptor is left to import it with
            return False

    def try_again(self, batch: Batch, task: Task, wait: Wait) -> None:
        """Have a task that has raised wait for its next attempt, in no batch's way.

        It does so in a batch of its own, and keeps its capacity. Where it need not wait, or nothing
        could wake it, it is the last of its own batch. If somebody else makes that attempt, this is
        the end of it here.
        """
        if task.hands_back:
            return
        task.begin_again()
        if not wait.seconds or self._tries_at_once(wait):
            if batch.put_last(task) and batch.is_checked:
                self.turns.begin(batch, [task], was_first=True)
            return
        due = time.monotonic() + wait.seconds
        apart = batch.set_apart(task, due)
        if apart is None:  # a drain has named it
            return
        self.in_flight.hold(apart)
        apart.release(partial(self.release, apart))
        if not self.later.add(apart, due):
            self.resume(apart)
        if apart.is_checked:  # and unless it was given up, or has begun already
            self.turns.begin(apart, list(apart.waiting), was_first=True)

    def _tries_at_once(self, wait: Wait) -> bool:
        may_wait = host.has_threads() and not self._ends_with_the_request
        is_waited_for = self.later.is_draining and not wait.is_asked_for
        return is_waited_for or not (may_wait and mode.active.takes_time)

    def resume(self, batch: Batch) -> None:
        """Let a batch go on, whatever comes next."""
        if batch.needs_loop():
            self.to_loop(batch)
        else:
            self.to_threads(batch)

    def run_here(self, batch: Batch) -> None:
        """Run a batch, which is open, to its end: sync tasks in this thread, async ones on a loop.

        For the worker of an engine, which waits for it.
        """
        batch.release(partial(self.release, batch))
        self.enter(batch)
        done = threading.Event()
        batch.on_finished(done.set)
        if batch.needs_loop():
            self.to_loop(batch)
        else:
            self.threads.run(batch)
        done.wait()

    def enter(self, batch: Batch) -> bool:
        """Note a batch that is about to run; tell whether there was capacity for it."""
        if self._may_miss_forks:
            fork.notice()
        if not self._is_registered:
            self._register_once()
        fits = self.in_flight.enter(batch)
        if batch.is_checked:
            self.turns.begin(batch, list(batch.waiting))
        return fits

    def _register_once(self) -> None:
        if not self._is_registered:
            self._is_registered = True
            self._register()
            self._ends_with_the_request = host.ends_with_the_request()

    def _start_later(self, batch: Batch, due: float) -> None:
        if self._may_miss_forks:
            fork.notice()
        self._register()
        if batch.origin_loop is None and loop_runs_here():
            batch.origin_loop = running_loop()
        self.in_flight.enter(batch, takes_capacity=False)
        if host.ends_with_the_request():
            self._refuse(batch, "this process ends with its request")
        elif not self.later.add(batch, due):
            self._refuse(batch, "no thread can be started to wait for its time")
        elif batch.is_checked:
            self.turns.begin(batch, list(batch.waiting))

    def _start_due(self, batch: Batch) -> None:
        batch.due = min(batch.due or 0.0, time.monotonic())  # a drain may have hurried it
        missing = batch.lacking()
        self.in_flight.reserve(missing)
        batch.reserve(missing)
        self.resume(batch)

    def _say_that_there_are_no_threads(self) -> None:
        if not self.later.is_draining:  # then no request waits
            self.notices.no_threads()

    def _refuse(self, batch: Batch, why: str) -> None:
        """Give up a batch that was released and cannot run here."""
        with on_behalf_of(batch):
            self._events.discarded(batch, self.execution.abandon(batch, "discarded"), why)
        self.execution.finish(batch)

    def reset_after_fork(self) -> None:
        """In a forked child: drop what belongs to the parent's threads."""
        for batch in self.in_flight.reset_after_fork():
            batch.reset_after_fork()
        self.pool.reset_after_fork()
        self._stall.reset_after_fork()
        self.lock_watch.reset_after_fork()
        if "loops" in vars(self) and self.loops.watch is not None:
            self.loops.watch.reset_after_fork()
        self.later.reset_after_fork()
        self.turns.reset_after_fork()
        self.time_limits.reset_after_fork()
        self.inline.reset_after_fork()
        self._lock = threading.RLock()
        self._background = None
        self._is_registered = False


def _may_be_importing(module: str) -> bool:
    """Whether this may be a signal handler that came in the middle of an import.

    The main thread cannot finish it meanwhile, and finds half a module. Another thread waits.
    """
    return threading.current_thread() is threading.main_thread() and host.imported(module) is None


def _started(run: Callable[[], None]) -> bool:
    """Have a thread of its own call ``run``: all workers may be busy."""
    if not host.has_threads():
        return False
    try:
        host.start_thread(threading.Thread(target=run, name="bgadapters-import", daemon=True))
    except RuntimeError:  # no more threads
        return False
    return True


def _if_alive(method: WeakMethod[Callable[P, None]]) -> Callable[P, None]:
    """Return a call of a method that keeps no application alive, as a worker keeps its pool."""

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        alive = method()
        if alive is not None:  # pragma: no branch  as it is while tasks wait
            alive(*args, **kwargs)

    return call
