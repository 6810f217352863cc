"""Observes a test: records the tasks, runs or keeps them, judges what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Literal, NoReturn

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.event import TaskEvent
from bgadapters.core.model.task import Task
from bgadapters.core.process import shutdown
from bgadapters.testing.assertions import Assertions
from bgadapters.testing.mode import observed_by
from bgadapters.testing.recorded import RecordedTask

TIMEOUT = 10.0  # seconds that tasks get after a test
_GRACE = 1.0  # seconds that a server's thread gets to close a response that a test has read

Mode = Literal["run", "capture"]


class LeakedTasksError(AssertionError):
    """A test has ended and left tasks: still at work, or in a response that nothing closed."""


@dataclass(eq=False)
class _Entry:
    """A recorded task, and what it takes to run it."""

    recorded: RecordedTask
    task: Task
    batch: Batch
    scheduler: Scheduler
    is_kept: bool = False


class Recorder(Assertions):
    """The tasks of a test, and what becomes of them: those added or released in it.

    Args:
        mode: ``"run"`` runs the tasks of a response before the call that made it returns,
            wherever its framework allows; ``"capture"`` keeps them all.
        strict_portable: whether ``add_task`` refuses what could not go to another process. The
            attribute of this name may be changed in the middle of a test.
        ignore_failures: whether failing tasks are recorded and nothing else.
        real_time: whether tasks with a later time wait for it, and tasks that are tried again for
            their next attempt. Default: their times are due at once. The attribute of this name
            may be changed in the middle of a test.

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        mode: Mode = "run",
        *,
        strict_portable: bool = False,
        ignore_failures: bool = False,
        real_time: bool = False,
    ) -> None:
        if mode not in ("run", "capture"):
            raise ValueError(f"mode accepts 'run' or 'capture', not {mode!r}")
        self.strict_portable = strict_portable
        self.real_time = real_time
        self._mode: Mode = mode
        self._ignores_failures = ignore_failures
        # Reentrant: the collector may tell of a task wherever it likes.
        self._changed = threading.Condition(threading.RLock())
        self._entries: dict[Task, _Entry] = {}  # in order; guarded by _changed
        self._open: dict[Batch, Scheduler] = {}  # with tasks, not going yet; guarded by _changed
        self._failed: list[RecordedTask] = []  # not raised yet; guarded by _changed
        self._postponed: list[BaseException] = []
        self._starting: Batch | None = None  # it was captured and is to run now

    @property
    def tasks(self) -> list[RecordedTask]:
        """Every task that was added so far, in the order added."""
        with self._changed:
            return [entry.recorded for entry in self._entries.values()]

    @property
    def pending(self) -> list[RecordedTask]:
        """Those that were captured and not run yet, in the order added."""
        return [entry.recorded for entry in self._kept()]

    def capture(self) -> None:
        """From now on keep the tasks of responses rather than run them."""
        self._mode = "capture"

    def run(self) -> None:
        """From now on run the tasks of responses; those captured before stay where they are."""
        self._mode = "run"

    def ignore_failures(self) -> None:
        """Have failing tasks recorded without failing the test."""
        self._ignores_failures = True

    def clear(self) -> None:
        """Forget what was added; captured tasks will not run. Failures are still raised."""
        with self._changed:
            self._entries.clear()

    def run_pending(self, where: Callable[[RecordedTask], bool] | None = None) -> int:
        """Run captured tasks in this thread, in the order added; what they add runs after them.

        A failing task does not stop those after it.

        Args:
            where: chooses among them. Default: all.

        Returns:
            How many of them were run.

        Raises:
            RuntimeError: called where an event loop is running; ``await arun_pending()`` there.
            BaseException: what a task raised, as `raise_failures`.
        """
        __tracebackhide__ = True
        if loop_runs_here():
            raise RuntimeError(
                "run_pending() would block the running event loop; use 'await arun_pending()'"
            )
        with observed_by(self):  # the block or the test that has captured them may be over
            self._release_held()
            chosen = self._choose(where)
            for batch, scheduler in _released_again(chosen):
                self._start(batch, scheduler)
        self.raise_failures()
        return len(chosen)

    async def arun_pending(self, where: Callable[[RecordedTask], bool] | None = None) -> int:
        """Do as `run_pending`, async tasks on the running event loop."""
        __tracebackhide__ = True
        from bgadapters.core.drivers.waiting import finished

        with observed_by(self):
            self._release_held()
            chosen = self._choose(where)
            for batch, scheduler in _released_again(chosen):
                self._start(batch, scheduler)
                await finished(batch, _wait_on)
        self.raise_failures()
        return len(chosen)

    def raise_failures(self) -> None:
        """Raise what tasks have raised since this was last called, unless it is ignored.

        Raises:
            BaseException: what a task raised, with the traceback of the task alone; a
                ``BaseExceptionGroup`` if several did.
        """
        __tracebackhide__ = True
        _tell(self._take_failures(), None)

    def postpone(self, problem: BaseException) -> None:
        """Have something that was raised be raised again the next time that tasks are judged."""
        self._postponed.append(problem)

    def settle(self, timeout: float, exception: BaseException | None = None) -> None:
        """Wait for what runs, then judge.

        Args:
            timeout: seconds to wait, for all together.
            exception: what the test has failed with. It gets notes, and nothing is raised.

        Raises:
            BaseException: what a task raised, as `raise_failures`.
            LeakedTasksError: tasks were still at work after that time.
        """
        __tracebackhide__ = True
        _tell(self._problems(timeout, []), exception)

    def finish(self, timeout: float, exception: BaseException | None = None) -> None:
        """The test has ended: do as `settle`, and look for tasks that wait in vain.

        Args:
            timeout: as for `settle`.
            exception: as for `settle`.

        Raises:
            BaseException: what a task raised, as `raise_failures`.
            LeakedTasksError: tasks were still at work, or nothing has closed their response.
        """
        __tracebackhide__ = True
        _tell(self._problems(timeout, self._take_lost(min(timeout, _GRACE))), exception)

    # What the core tells and asks.

    def added(self, batch: Batch, task: Task, scheduler: Scheduler) -> None:
        """A task was put into a batch."""
        if batch.is_abandoned:  # an earlier test has named it
            return
        with self._changed:
            self._entries[task] = _Entry(RecordedTask(task, batch.path), task, batch, scheduler)
            self._open[batch] = scheduler

    def on_event(self, event: TaskEvent) -> None:
        """Something else happened to a task."""
        with self._changed:
            entry = self._entries.get(event.task)
            if entry is None or event.kind == "added":  # not of this test, or known
                return
            recorded = entry.recorded
            if entry.batch.is_abandoned and event.kind != "abandoned":
                return  # what comes of it now is its cancellation
            if recorded.outcome == "failed":  # while it was being abandoned
                return
            recorded.outcome = event.kind
            recorded.attempts = max(recorded.attempts, event.attempt)
            recorded.exception = event.exception
            if event.kind == "failed":
                self._failed.append(recorded)

    @property
    def keeps_tasks(self) -> bool:
        """Whether tasks are kept for `run_pending`."""
        return self._mode == "capture"

    def intercepts(self, batch: Batch, scheduler: Scheduler) -> bool:
        """A batch was just released: keep its tasks in mode ``"capture"``, or until later."""
        if batch is self._starting:
            return False
        with self._changed:
            self._open.pop(batch, None)
            self._changed.notify_all()
            is_kept = self.keeps_tasks
            for task in batch.left():
                if task not in self._entries:
                    recorded = RecordedTask(task, batch.path)
                    self._entries[task] = _Entry(recorded, task, batch, scheduler)
                self._entries[task].batch = batch  # it may have left the order of another one
                self._entries[task].is_kept = is_kept
                self._entries[task].batch = batch  # to which it may have been moved by a flush
        if is_kept:
            scheduler.execution.give_back(batch.intercept())
        return is_kept

    def _release_held(self) -> None:
        """Release batches whose preconditions were resolved, and could not tell.

        A transaction that has committed inside of a test's own has told nobody.
        """
        with self._changed:
            held = [(b, scheduler) for b, scheduler in self._open.items() if not b.is_open]
        for batch, scheduler in held:
            scheduler.release(batch)

    def _start(self, batch: Batch, scheduler: Scheduler) -> None:
        self._starting, batch.due = batch, None
        try:
            scheduler.start(batch)
        finally:
            self._starting = None

    def _kept(self) -> list[_Entry]:
        with self._changed:
            return [entry for entry in self._entries.values() if entry.is_kept]

    def _choose(self, where: Callable[[RecordedTask], bool] | None) -> list[_Entry]:
        chosen = [entry for entry in self._kept() if where is None or where(entry.recorded)]
        for entry in chosen:
            entry.is_kept = False
        return chosen

    def _take_failures(self) -> list[BaseException]:
        with self._changed:
            failed, self._failed = self._failed, []
        return [] if self._ignores_failures else [_raised_by(task) for task in failed]

    def _take_lost(self, timeout: float) -> list[RecordedTask]:
        """The tasks of queues that nothing has released; they are thrown away without a warning."""
        with self._changed:
            self._changed.wait_for(lambda: not self._still_open(), timeout)
            still_open = self._still_open()
            self._open.clear()
        taken = [task for batch, scheduler in still_open for task in _remove(batch, scheduler)]
        with self._changed:
            lost = [self._entries[task].recorded for task in taken if task in self._entries]
        for task in lost:
            task.outcome = "lost"
        return lost

    def _still_open(self) -> list[tuple[Batch, Scheduler]]:
        return [(b, scheduler) for b, scheduler in self._open.items() if b.is_open and len(b)]

    def _problems(self, timeout: float, lost: Sequence[RecordedTask]) -> list[BaseException]:
        self._release_held()
        abandoned = _wait_for_all(timeout)
        postponed, self._postponed = self._postponed, []
        problems = postponed + self._take_failures()
        if abandoned:
            problems.append(
                LeakedTasksError(
                    f"{len(abandoned)} background task(s) had not finished {timeout:.3g} s after "
                    f"the test, and were abandoned: {', '.join(abandoned)}"
                )
            )
        if lost:
            problems.append(
                LeakedTasksError(
                    f"{len(lost)} background task(s) never ran, since nothing closed their "
                    f"response: {', '.join(task.where for task in lost)}. Read a streamed response "
                    "to its end or close it; use BackgroundTasks() in a 'with' block, or release it"
                )
            )
        return problems


def _released_again(chosen: Sequence[_Entry]) -> list[tuple[Batch, Scheduler]]:
    """Have captured tasks wait together, as in a server: of those with the same key one counts.

    Return their batches, to be started one after the other.
    """
    batches = list(_put_back(chosen))
    for batch, scheduler in batches:
        scheduler.turns.begin(batch, list(batch.waiting))
    return batches


def _put_back(chosen: Sequence[_Entry]) -> Iterator[tuple[Batch, Scheduler]]:
    """Put captured tasks back into the batches that were released; give these to be started."""
    for batch, group in groupby(chosen, lambda entry: entry.batch):
        entries = list(group)
        if batch.put_back([entry.task for entry in entries]):
            yield batch, entries[0].scheduler


def _remove(batch: Batch, scheduler: Scheduler) -> Sequence[Task]:
    effects = batch.remove()
    scheduler.execution.give_back(effects)
    return effects.discarded


async def _wait_on() -> None:
    """A test's own server ends: what it runs is waited for by the recorder."""


def _wait_for_all(timeout: float) -> list[str]:
    """Wait for the tasks of every application in this process; return what was given up."""
    deadline = time.monotonic() + timeout
    abandoned: list[str] = []
    for application in shutdown.applications():
        if application.has_work() and isinstance(application, Runtime):
            left = max(0.0, deadline - time.monotonic())
            abandoned += application.drain_at_exit(left, is_quiet=True)
    return abandoned


def _raised_by(task: RecordedTask) -> BaseException:
    """What a task has raised, with its own traceback and a note that names the task."""
    exception = task.exception
    assert exception is not None, "a task that failed has raised something"  # noqa: S101
    traceback = exception.__traceback__
    while traceback is not None and traceback.tb_next is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    if isinstance(exception, StopIteration):  # which cannot leave a generator: a hook, a block
        exception = RuntimeError("the task raised StopIteration")
    exception.add_note(f"Raised by the background task {task.where}")
    return exception.with_traceback(traceback)


def _is_ours(traceback: TracebackType) -> bool:
    name: str = traceback.tb_frame.f_globals.get("__name__", "")
    return name.startswith("bgadapters.")


def _tell(problems: Sequence[BaseException], exception: BaseException | None) -> None:
    """Raise the one, or a group of all; or add notes to an exception that was raised already."""
    __tracebackhide__ = True
    if exception is not None:
        for problem in problems:
            exception.add_note(f"In the same test: {type(problem).__name__}: {problem}")
        return
    for problem in problems:
        if isinstance(problem, KeyboardInterrupt):  # Ctrl-C in a task is Ctrl-C
            raise problem
    if len(problems) > 1:
        _raise_all(problems)
    if problems:
        raise problems[0]


def _raise_all(problems: Sequence[BaseException]) -> NoReturn:
    """Raise a group; this frame is not hidden, as pytest needs one to show."""
    raise BaseExceptionGroup(f"{len(problems)} problems with background tasks", problems)
