"""What looks on in a test: records the tasks, runs or keeps them, judges what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import TracebackType
from typing import Any, Literal, NoReturn

from bgadapters.core import drain, rehearsal
from bgadapters.core.events import TaskEvent
from bgadapters.core.later import LaterTasks
from bgadapters.core.queue import BackgroundTasks
from bgadapters.core.task import Options, Task
from bgadapters.testing.assertions import Assertions, name_of, shown

TIMEOUT = 10.0  # seconds that tasks get after a test
_GRACE = 1.0  # seconds that a server's thread gets to close a response that a test has read

Mode = Literal["run", "capture"]
Outcome = Literal["pending", "started", "succeeded", "failed", "discarded", "abandoned", "lost"]


class LeakedTasksError(AssertionError):
    """A test has ended and left tasks: still at work, or in a response that nothing closed."""


class RecordedTask:
    """A task that was added in a test.

    Attributes:
        func: the callable; of a task object of Django's framework for tasks, its function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        options: those of ``options(...)``, or their defaults.
        path: the path of the request that added it; None outside a request.
        outcome: ``"pending"`` (it waits for its response or, captured, for `Recorder.run_pending`),
            ``"started"``, ``"succeeded"``, ``"failed"``, ``"discarded"`` (its response failed),
            ``"abandoned"`` (it was at work for too long) or ``"lost"`` (nothing closed its
            response).
        exception: what it raised, or why it was discarded; else None.
    """

    def __init__(self, task: Task, queue: BackgroundTasks) -> None:
        self.func: Callable[..., Any]
        self.args: tuple[Any, ...]
        self.kwargs: dict[str, Any]
        self.func, self.args, self.kwargs = task.meant
        self.options: Options = task.options
        self.path = queue.path
        self.outcome: Outcome = "pending"
        self.exception: BaseException | None = None
        self._task = task
        self._queue = queue
        self._is_kept = False

    @property
    def name(self) -> str:
        """What logs call it."""
        return self._task.name

    @property
    def where(self) -> str:
        """The task and the request that added it."""
        return f"{self.name} of {self.path}" if self.path else self.name

    def __repr__(self) -> str:
        return shown(self.options.name or name_of(self.func), self.args, self.kwargs)


class Recorder(Assertions):
    """The tasks of a test, and what becomes of them: those added or released in it.

    Args:
        mode: ``"run"`` runs the tasks of a response before the call that made it returns,
            wherever its framework allows, save for those that have a later time; ``"capture"``
            keeps them all.
        strict_portable: whether ``add_task`` refuses what could not go to another process. The
            attribute of this name may be changed in the middle of a test.
        ignore_failures: whether failing tasks are recorded and nothing else.

    Raises:
        ValueError: another mode.
    """

    def __init__(
        self,
        mode: Mode = "run",
        *,
        strict_portable: bool = False,
        ignore_failures: bool = False,
    ) -> None:
        if mode not in ("run", "capture"):
            raise ValueError(f"mode accepts 'run' or 'capture', not {mode!r}")
        self.strict_portable = strict_portable
        self._mode: Mode = mode
        self._ignores_failures = ignore_failures
        # Reentrant: the collector may tell of a task wherever it likes.
        self._changed = threading.Condition(threading.RLock())
        self._recorded: dict[Task, RecordedTask] = {}  # in order; guarded by _changed
        self._open: set[BackgroundTasks] = set()  # with tasks, not going yet; guarded by _changed
        self._failed: list[RecordedTask] = []  # not raised yet; guarded by _changed
        self._postponed: list[BaseException] = []

    @property
    def tasks(self) -> list[RecordedTask]:
        """Every task that was added so far, in the order added."""
        with self._changed:
            return list(self._recorded.values())

    @property
    def pending(self) -> list[RecordedTask]:
        """Those that were captured and not run yet, in the order added."""
        return [task for task in self.tasks if task._is_kept]

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
            self._recorded.clear()

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
        from bgadapters.core.runtime import loop_runs_here

        if loop_runs_here():
            raise RuntimeError(
                "run_pending() would block the running event loop; use 'await arun_pending()'"
            )
        with rehearsal.watched_by(self):  # the block or the test that has captured them may be over
            self._release_held()
            chosen = self._choose(where)
            for queue in _put_back(chosen):
                queue.runtime.start(queue)
        self.raise_failures()
        return len(chosen)

    async def arun_pending(self, where: Callable[[RecordedTask], bool] | None = None) -> int:
        """Do as `run_pending`, async tasks on the running event loop."""
        __tracebackhide__ = True
        from bgadapters.core.waiting import finished

        with rehearsal.watched_by(self):
            self._release_held()
            chosen = self._choose(where)
            for queue in _put_back(chosen):
                queue.runtime.spawn(queue)
                await finished(queue)
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

    def added(self, queue: BackgroundTasks, task: Task) -> None:
        """A task was put into a queue."""
        if queue.is_abandoned:  # an earlier test has named it
            return
        with self._changed:
            self._recorded[task] = RecordedTask(task, queue)
            self._open.add(queue)

    def told(self, event: TaskEvent) -> None:
        """Something else happened to a task."""
        with self._changed:
            recorded = self._recorded.get(event.task)
            if recorded is None or event.kind == "added":  # not of this test, or known
                return
            if recorded._queue.is_abandoned and event.kind != "abandoned":
                return  # what comes of it now is its cancellation
            if recorded.exception is not None:  # it has failed while it was being abandoned
                return
            recorded.outcome = event.kind
            recorded.exception = event.exception
            if event.kind == "failed":
                self._failed.append(recorded)

    def keeps(self, queue: BackgroundTasks, tasks: Sequence[Task]) -> bool:
        """A queue is being released: keep its tasks in mode ``"capture"``, or until later."""
        with self._changed:
            self._open.discard(queue)
            self._changed.notify_all()
            is_kept = self._mode == "capture" or isinstance(queue, LaterTasks)
            for task in tasks:
                recorded = self._recorded.setdefault(task, RecordedTask(task, queue))
                recorded._is_kept = is_kept
            return is_kept

    def _release_held(self) -> None:
        """Let queues go whose gates have decided, and could not tell.

        A transaction that has committed inside of a test's own has told nobody.
        """
        with self._changed:
            held = [queue for queue in self._open if not queue.is_open]
        for queue in held:
            queue.release()

    def _choose(self, where: Callable[[RecordedTask], bool] | None) -> list[RecordedTask]:
        chosen = [task for task in self.pending if where is None or where(task)]
        for task in chosen:
            task._is_kept = False
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
        taken = [task for queue in still_open for task in queue.take_all()]
        with self._changed:
            lost = [self._recorded[task] for task in taken if task in self._recorded]
        for task in lost:
            task.outcome = "lost"
        return lost

    def _still_open(self) -> list[BackgroundTasks]:
        return [queue for queue in self._open if queue.is_open and len(queue)]

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


def _put_back(chosen: Sequence[RecordedTask]) -> Iterator[BackgroundTasks]:
    """Put captured tasks back into the queues that were released, and give these to be started."""
    for queue, group in groupby(chosen, lambda task: task._queue):
        if queue.put_back([task._task for task in group]):
            yield queue


def _wait_for_all(timeout: float) -> list[str]:
    """Wait for the tasks of every application in this process; return what was given up."""
    deadline = time.monotonic() + timeout
    abandoned: list[str] = []
    for runtime in drain.watched():
        if runtime.backlog.live():
            left = max(0.0, deadline - time.monotonic())
            abandoned += runtime.drain_at_exit(left, quietly=True)
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
