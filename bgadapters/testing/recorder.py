"""What looks on in a test: records the tasks, runs or keeps them, judges what became of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Literal
from weakref import WeakSet, ref

from bgadapters.core import drain
from bgadapters.core.events import TaskEvent
from bgadapters.core.queue import BackgroundTasks
from bgadapters.core.task import Options, Task
from bgadapters.testing.assertions import Assertions

TIMEOUT = 10.0  # seconds that tasks get after a test

Mode = Literal["run", "capture"]
Outcome = Literal["pending", "started", "succeeded", "failed", "discarded", "abandoned", "lost"]


class TaskFailedError(Exception):
    """A task has raised what would end a test run (SystemExit, KeyboardInterrupt): its cause."""


class LeakedTasksError(AssertionError):
    """A test has ended and left tasks: still at work, or in a response that nothing closed."""


class RecordedTask:
    """A task that was added in a test.

    Attributes:
        func: the callable.
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
        self.func: Callable[..., Any] = task.func
        self.args = task.args
        self.kwargs: dict[str, Any] = task.kwargs or {}
        self.options: Options = task.options
        self.path = queue.path
        self.outcome: Outcome = "pending"
        self.exception: BaseException | None = None
        self._task = task
        self._runtime = queue.runtime
        self._response = ref(queue)  # one and the same for all tasks of a response
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
        given = [repr(arg) for arg in self.args]
        given += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(given)})"


class Recorder(Assertions):
    """The tasks of a test, and what becomes of them.

    Args:
        mode: ``"run"`` runs the tasks of a response before the call that made it returns,
            wherever its framework allows; ``"capture"`` keeps them.
        strict_portable: whether ``add_task`` refuses what could not go to another process.
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
        self.is_strict = strict_portable
        self._mode: Mode = mode
        self._ignores_failures = ignore_failures
        self._lock = threading.Lock()
        self._recorded: dict[Task, RecordedTask] = {}  # in order; guarded by _lock
        self._open: WeakSet[BackgroundTasks] = WeakSet()  # guarded by _lock
        self._unreported: list[RecordedTask] = []  # guarded by _lock

    @property
    def tasks(self) -> list[RecordedTask]:
        """Every task that was added so far, in the order added."""
        with self._lock:
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
        """Forget what was recorded; captured tasks will not run."""
        with self._lock:
            self._recorded.clear()
            self._unreported.clear()

    def run_pending(self, where: Callable[[RecordedTask], bool] | None = None) -> int:
        """Run captured tasks in this thread, in the order added; what they add runs after them.

        A failing task does not stop those after it.

        Args:
            where: chooses among them. Default: all.

        Returns:
            How many were run.

        Raises:
            RuntimeError: called where an event loop is running; ``await arun_pending()`` there.
            Exception: what a task raised; an ``ExceptionGroup`` if several did.
        """
        from bgadapters.core.runtime import loop_runs_here

        if loop_runs_here():
            raise RuntimeError(
                "run_pending() would block the running event loop; use 'await arun_pending()'"
            )
        chosen = self._choose(where)
        for queue in self._requeue(chosen):
            queue.runtime.start(queue)
        self.raise_failures()
        return len(chosen)

    async def arun_pending(self, where: Callable[[RecordedTask], bool] | None = None) -> int:
        """Do as `run_pending`, async tasks on the running event loop."""
        from bgadapters.core.loop import finished

        chosen = self._choose(where)
        for queue in self._requeue(chosen):
            queue.runtime.spawn(queue)
            await finished(queue)
        self.raise_failures()
        return len(chosen)

    def raise_failures(self) -> None:
        """Raise what tasks have raised since this was last called, unless it is ignored."""
        with self._lock:
            failed, self._unreported = self._unreported, []
        if self._ignores_failures or not failed:
            return
        raised = [_raised_by(task) for task in failed]
        if len(raised) > 1:
            raise ExceptionGroup(f"{len(raised)} background tasks failed", raised)
        raise raised[0]

    def finish(self, timeout: float) -> None:
        """The test has ended: wait for what still runs, then judge.

        Args:
            timeout: seconds to wait, for all together.

        Raises:
            LeakedTasksError: tasks that were still at work, or whose response nothing closed.
            Exception: what a task raised, as `raise_failures`.
        """
        abandoned = _wait_for_all(timeout)
        lost = self._take_lost()
        self.raise_failures()
        if abandoned:
            raise LeakedTasksError(
                f"{len(abandoned)} background task(s) had not finished {timeout:.3g} s after the "
                f"test, and were abandoned: {', '.join(abandoned)}"
            )
        if lost:
            raise LeakedTasksError(
                f"{len(lost)} background task(s) never ran, since nothing closed their response: "
                f"{', '.join(task.where for task in lost)}. Read a streamed response to its end or "
                "close it; use BackgroundTasks() in a 'with' block, or release it."
            )

    @contextmanager
    def judged(self, timeout: float = TIMEOUT) -> Iterator[None]:
        """Finish at the end of a block; if the block itself raises, add a note to its exception."""
        try:
            yield
        except BaseException as exc:
            try:
                self.finish(timeout)
            except Exception as also:
                exc.add_note(f"In the same test: {type(also).__name__}: {also}")
            raise
        self.finish(timeout)

    # What the core tells and asks.

    def added(self, queue: BackgroundTasks, task: Task) -> None:
        """A task was put into a queue."""
        with self._lock:
            self._recorded[task] = RecordedTask(task, queue)
            self._open.add(queue)

    def told(self, event: TaskEvent) -> None:
        """Something else happened to a task."""
        with self._lock:
            recorded = self._recorded.get(event.task)
            if recorded is None or event.kind == "added":  # of another test
                return
            recorded.outcome = event.kind
            recorded.exception = event.exception
            if event.kind == "failed":
                self._unreported.append(recorded)

    def keeps(self, queue: BackgroundTasks, tasks: Sequence[Task]) -> bool:
        """Keep the tasks of a queue that is being released, if it is captured."""
        if self._mode != "capture":
            return False
        with self._lock:
            for task in tasks:
                recorded = self._recorded.get(task) or RecordedTask(task, queue)
                recorded._is_kept = True
                self._recorded[task] = recorded
        return True

    def _choose(self, where: Callable[[RecordedTask], bool] | None) -> list[RecordedTask]:
        chosen = [task for task in self.pending if where is None or where(task)]
        for task in chosen:
            task._is_kept = False
        return chosen

    def _requeue(self, chosen: Sequence[RecordedTask]) -> Iterator[BackgroundTasks]:
        """Put the captured tasks of each response into a queue that was released."""
        for _, group in groupby(chosen, lambda task: task._response):
            tasks = list(group)
            yield BackgroundTasks.of((t._task for t in tasks), tasks[0]._runtime, tasks[0].path)

    def _take_lost(self) -> list[RecordedTask]:
        """The tasks of queues that nothing has released; they are thrown away without a warning."""
        with self._lock:
            still_open = [queue for queue in self._open if queue.is_open]
            self._open.clear()
        lost = []
        for task in [task for queue in still_open for task in queue.take_all()]:
            recorded = self._recorded.get(task)
            if recorded is not None:
                recorded.outcome = "lost"
                lost.append(recorded)
        return lost


def _wait_for_all(timeout: float) -> list[str]:
    """Wait for the tasks of every application in this process; return what was given up."""
    deadline = time.monotonic() + timeout
    abandoned = []
    for runtime in drain.watched():
        if runtime.backlog.live():
            left = max(0.0, deadline - time.monotonic())
            abandoned += runtime.drain_at_exit(left, quietly=True)
    return abandoned


def _raised_by(task: RecordedTask) -> Exception:
    """What a task has raised, with its own traceback and a note that names the task."""
    exception = task.exception
    if not isinstance(exception, Exception):
        error = TaskFailedError(f"{task.where} raised {type(exception).__name__}")
        error.__cause__ = exception
        return error
    traceback = exception.__traceback__
    while traceback is not None and traceback.tb_next is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    exception.add_note(f"Raised by the background task {task.where}")
    return exception.with_traceback(traceback)


def _is_ours(traceback: Any) -> bool:
    name: str = traceback.tb_frame.f_globals.get("__name__", "")
    return name.startswith("bgadapters.")
