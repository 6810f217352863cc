"""The queue of one response: open, then released or discarded."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import copy_context
from sys import exception as exception_being_handled
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, Unpack

from bgadapters.core import current, rehearsal
from bgadapters.core.events import because, names
from bgadapters.core.exceptions import NOT_A_FIELD, QueueClosedError, QueueFullError
from bgadapters.core.gate import Gate
from bgadapters.core.runtime import Runtime, default_runtime
from bgadapters.core.task import (
    DEFAULT_OPTIONS,
    OptionNames,
    Options,
    Task,
    as_callable,
    checked_options,
    is_async_callable,
)

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")

OPEN, HELD, RUNNING, DONE, DISCARDED = (
    "open",
    "released, waiting for a commit",
    "released",
    "released and finished",
    "discarded",
)


class BackgroundTasks:
    """The tasks of one response, run one at a time in the order added once it is released.

    The shims make one for each response and release it when the framework closes
    that response. By itself it is a context manager that releases at the end of
    its block, and discards if the block raises::

        with BackgroundTasks() as tasks:
            tasks.add_task(write_notification, email)

    ``with`` hands the tasks to worker threads and goes on; ``async with`` waits
    until they have run, since an event loop that ends takes its tasks with it.
    An instance is also a valid Starlette ``background=``.

    Args:
        runtime: the settings, workers and hooks to run with. Default: those of the process.
        path: that of the request, for whoever looks on. Default: None.
        priority: among queues that wait for a worker thread, those with a higher one go first.
    """

    __slots__ = (
        "__weakref__",
        "_abandoned",
        "_answers",
        "_attached",
        "_awaited",
        "_driver",
        "_gates",
        "_grown",
        "_home",
        "_lock",
        "_previous",
        "_running",
        "_slots",
        "_state",
        "_tasks",
        "_wakers",
        "path",
        "priority",
        "runtime",
    )

    def __init__(
        self, *, runtime: Runtime | None = None, path: str | None = None, priority: int = 0
    ) -> None:
        self.runtime = default_runtime() if runtime is None else runtime
        self.path = path
        self.priority = priority
        self._lock = threading.Lock()
        self._state = OPEN  # guarded by _lock
        self._tasks: deque[Task] = deque()  # guarded by _lock, but taken from without it
        self._slots = 0  # places held in the backlog; guarded by _lock
        self._gates: list[Gate] | None = None  # of some of its tasks; guarded by _lock
        # Tasks added while an exception was handled, and where that was; guarded by _lock.
        self._answers: dict[Task, TracebackType | None] | None = None
        self._grown = 0  # tasks added by the queue's own tasks; guarded by _lock
        self._abandoned = False  # whether a drain has given up on it
        self._running: Task | None = None  # written by the runner alone
        self._awaited: Awaitable[Any] | None = None  # what the running sync task returned
        self._home: asyncio.AbstractEventLoop | None = None  # the loop for its async tasks
        self._driver: asyncio.Task[None] | None = None  # strong: asyncio keeps only weak ones
        self._wakers: list[Callable[[], None]] = []  # called when it is done; guarded by _lock
        self._attached: tuple[BackgroundTasks, ...] = ()  # share its fate; guarded by _lock
        self._previous: BackgroundTasks | None = None  # the current queue around a with block

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call to be made after the response.

        It runs in a copy of the context variables of this moment. A task may add
        tasks to its own queue: they run last.

        Args:
            func: a function, coroutine function or any other callable; or a task object that
                is to be enqueued then, by its own method ``enqueue``.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            TypeError: ``func`` cannot be called, is a coroutine object, or is a
                generator function, of which a call runs nothing.
            QueueClosedError: the queue was released or discarded.
            QueueFullError: ``max_pending`` tasks wait already and ``on_full="reject"``, or
                this queue's own tasks have added ``max_pending`` tasks to it.
            NotPortableError: with the setting ``strict_portable``, a function that cannot be
                imported by name or an argument that JSON does not keep.
        """
        self._add(DEFAULT_OPTIONS, func, args, kwargs)

    def options(self, **options: Unpack[OptionNames]) -> WithOptions:
        """Return this queue's ``add_task`` with options.

        Args:
            always: run the task even when the response failed. Default False.
            name: what logs and events call it. Default: the function's qualified name.
            on_commit: in Django, run the task only if the transaction commits in which it was
                added. Default True.

        Raises:
            TypeError: an option that is not accepted, or a value of the wrong type.
        """
        return WithOptions(self, checked_options(DEFAULT_OPTIONS, options))

    def release(self) -> None:
        """The response is complete: let the tasks run. Does not wait for them.

        Where an event loop is running the tasks are driven by it, otherwise by the
        runtime's worker threads. Later calls do nothing.
        """
        if self._begin():
            self.runtime.start(self)
        self._release_attached()

    async def arelease(self) -> None:
        """Release, and wait until the tasks have run. Cancelling the wait cancels no task."""
        if self._begin():
            self.runtime.spawn(self, at_once=True)
        self._release_attached()
        if self._state is RUNNING:
            from bgadapters.core.waiting import finished

            await finished(self)

    async def __call__(self) -> None:
        """Do as `arelease`: this makes the queue a valid Starlette ``background``."""
        await self.arelease()

    def drop(self, exception: BaseException, since: int = 0) -> None:
        """The view's response failed: discard what was added, except ``always`` tasks.

        The queue stays open, for the response that is sent instead. Tasks that were added while
        this exception was handled, where it is handled now, are that response's own: they stay.

        Args:
            exception: why the response failed.
            since: how many tasks the queue held when the part of it that failed began; they
                stay. Default: 0.
        """
        dropped = self._take_out(exception, since)
        if dropped:
            self.runtime.events.discarded(dropped, because(exception), exception)

    def discard(self, exception: BaseException) -> None:
        """No response came of it: discard the tasks and run those added with ``always=True``."""
        self.drop(exception)
        with self._lock:
            if self._state is not OPEN:
                return
            if not self._tasks and not self._attached:
                self._state = DISCARDED
                return
        self.release()

    def attach(self, queue: BackgroundTasks) -> None:
        """Have another queue released, dropped or discarded together with this one.

        Raises:
            QueueClosedError: this queue was released or discarded.
        """
        with self._lock:
            if self._state is not OPEN:
                raise QueueClosedError(f"cannot attach {queue!r}: this queue was {self._state}")
            self._attached += (queue,)

    def take_all(self) -> list[Task]:
        """End a queue whose release will not come, and take what waits; nobody is told."""
        with self._lock:
            if self._state is not OPEN:
                return []
            self._state = DISCARDED
            return self._empty()

    def put_back(self, tasks: Iterable[Task]) -> bool:
        """Take back tasks that an audience has kept.

        Returns:
            Whether `Runtime.start` or `Runtime.spawn` is to be called; otherwise the queue is
            running, and they run last.
        """
        with self._lock:
            was_running = self._state is RUNNING
            self._tasks.extend(tasks)
            self._state = RUNNING
            return not was_running

    @property
    def gates(self) -> Sequence[Gate]:
        """What some of its tasks wait for, as far as it was not seen to be decided."""
        return self._gates or ()

    @property
    def is_open(self) -> bool:
        """Whether the queue was neither released nor discarded yet."""
        return self._state is OPEN

    @property
    def is_running(self) -> bool:
        """Whether the queue was released and has tasks that wait or run."""
        return self._state is RUNNING

    @property
    def is_abandoned(self) -> bool:
        """Whether a drain has given up on it, so that what still runs of it is nobody's."""
        return self._abandoned

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return len(self._tasks)

    def __bool__(self) -> bool:
        """True, empty or not: a queue is there to be added to."""
        return True

    def __repr__(self) -> str:
        return f"<BackgroundTasks {self._state}, {len(self._tasks)} waiting>"

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: object) -> None:
        """Refuse: pydantic asks for this where FastAPI does not see that it is a dependency."""
        raise TypeError(NOT_A_FIELD)

    def __enter__(self) -> Self:
        self._previous = current.enter(self)
        return self

    def __exit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        self._leave_block(exc)
        self.release()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, _: type[BaseException] | None, exc: BaseException | None, __: TracebackType | None
    ) -> None:
        self._leave_block(exc)
        await self.arelease()

    def __del__(self) -> None:
        if getattr(self, "_state", None) is OPEN and self._tasks:
            self._never_released()

    def _leave_block(self, exc: BaseException | None) -> None:
        current.leave(self, self._previous)
        self._previous = None
        if exc is not None:
            self.discard(exc)

    def _add(
        self, options: Options, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        func = as_callable(func)
        is_async = is_async_callable(func)
        runtime = self.runtime
        if runtime.snapshot is not None:
            runtime.snapshot()
        task = Task(func, args, kwargs or None, copy_context(), options, is_async)
        audience = rehearsal.audience
        if runtime.is_strict or (audience is not None and audience.strict_portable):
            from bgadapters.core.portable import check_portable

            check_portable(task)
        gates = runtime.gates_of(self) if runtime.gates_of is not None and options.on_commit else ()
        with self._lock:
            if self._state is not OPEN:
                self._admit_own(task)
            elif runtime.rejects:
                self._reserve_one(task)
            self._tasks.append(task)
            if (handled := exception_being_handled()) is not None:
                self._answers = self._answers or {}
                self._answers[task] = handled.__traceback__
            for gate in gates:
                if not gate.tasks:  # it is new
                    self._gates = self._gates or []
                    self._gates.append(gate)
                gate.tasks.append(task)
        if audience is not None:
            audience.added(self, task)
        runtime.events.added(task)

    def _admit_own(self, task: Task) -> None:
        """Let a running task add to its own queue, within a bound. Called with _lock held."""
        if self._state is not RUNNING or current.owner.get() is not self:
            raise QueueClosedError(
                f"cannot add {task.name}: the queue of this response was {self._state}. "
                "Add tasks before the response is complete, or from a task of the same queue."
            )
        limit = self.runtime.settings.max_pending
        if self._grown >= limit:
            raise QueueFullError(
                f"cannot add {task.name}: the tasks of this queue have added {limit} tasks to it "
                "already (max_pending), as a task does that adds itself without end."
            )
        self._grown += 1
        if self.runtime.rejects:
            self._reserve_one(task)
        else:
            self.runtime.backlog.reserve(1)
            self._slots += 1

    def _reserve_one(self, task: Task) -> None:
        """Take a place in the backlog or refuse the task. Called with _lock held."""
        if not self.runtime.backlog.try_reserve(1):
            raise QueueFullError(
                f"cannot add {task.name}: {self.runtime.settings.max_pending} tasks wait or run "
                "already (max_pending). Answer 503, or raise max_pending or max_workers."
            )
        self._slots += 1

    def _begin(self) -> bool:
        """Leave the state ``open``; tell whether there is anything to run."""
        with self._lock:
            if self._state is not OPEN and self._state is not HELD:
                return False
            if self._gates and self._waits_for_a_gate():
                self._state = HELD
                return False
            self._answers = None  # its tracebacks keep frames
            shut = self._take_shut()
            audience = rehearsal.audience
            if audience is not None and audience.keeps(self, self._tasks):
                self._empty()
            begins = bool(self._tasks)
            self._state = RUNNING if begins else self._state_when_done()
        self._discard_shut(*shut)
        self._release_attached(above=self.priority)
        return begins

    def _state_when_done(self) -> str:
        """What becomes of the queue when its tasks have run. Called with _lock held."""
        return DONE

    def _waits_for_a_gate(self) -> bool:
        """Whether a gate has not decided; it then releases the queue. Called with _lock held."""
        for gate in reversed(self.gates):  # the last one is the last to decide, as a rule
            gate.keep_queue()  # before it is asked: another thread may be deciding
            if gate.opened is None:
                return True
            gate.let_go()
        return False

    def _take_shut(self) -> tuple[list[Task], Gate | None]:
        """Take the tasks whose gate has not opened, and one of these. Called with _lock held."""
        if not self._gates:
            return [], None
        shut_gates = [gate for gate in self._gates if not gate.opened]
        self._gates = None
        closed = {task for gate in shut_gates for task in gate.tasks if not task.options.always}
        shut = [task for task in self._tasks if task in closed]
        if not shut:
            return [], None
        self._tasks = deque(task for task in self._tasks if task not in closed)
        return shut, shut_gates[0]

    def _discard_shut(self, shut: list[Task], gate: Gate | None) -> None:
        if gate is None:
            return
        with self._lock:
            freed = min(self._slots, len(shut))
            self._slots -= freed
        if freed:
            self.runtime.backlog.free(freed)
        self.runtime.events.discarded(shut, gate.why_shut, gate.reason())

    def _release_attached(self, above: int | None = None) -> None:
        """Release attached queues; those of a higher priority than this one's go before it."""
        if not self._attached:
            return
        with self._lock:
            going = [q for q in self._attached if above is None or q.priority > above]
            self._attached = tuple(q for q in self._attached if q not in going)
        for queue in sorted(going, key=lambda queue: -queue.priority):
            queue.release()

    def _take_out(self, exception: BaseException, since: int) -> list[Task]:
        """Take the tasks that a failed response discards, those of attached queues too."""
        with self._lock:
            if self._state is not OPEN:
                return []
            tasks, answers = list(self._tasks), self._answers or {}
            where = exception.__traceback__  # grows on the exception's way: a new object each time
            dropped = [
                task
                for task in tasks[since:]
                if not task.options.always and (task not in answers or answers[task] is not where)
            ]
            if dropped:
                gone = set(dropped)
                self._tasks = deque(task for task in tasks if task not in gone)
            freed = min(self._slots, len(dropped))
            self._slots -= freed
            attached = self._attached
        if freed:
            self.runtime.backlog.free(freed)
        for queue in attached:
            dropped += queue._take_out(exception, 0)
        return dropped

    def _empty(self) -> list[Task]:
        """Take what waits, and give its places back. Called with _lock held."""
        taken, self._tasks = list(self._tasks), deque()
        self.runtime.backlog.free(self._slots)
        self._slots = 0
        return taken

    def _starts_async(self) -> bool:
        """Whether an async task is next."""
        try:
            return self._tasks[0].is_async
        except IndexError:  # a drain has taken what was left
            return False

    def _take(self, is_async: bool) -> Task | None:
        """Take the next task to run it, if it is of this kind.

        Called by whoever runs the queue, by one at a time, so that it needs no lock, which would
        cost as much as the rest. A drain may take what is left at any point here: it then names
        the task, once, and here is none.
        """
        if self._gates:  # of tasks that this queue's own tasks have added
            with self._lock:
                shut = self._take_shut()
            self._discard_shut(*shut)
        tasks = self._tasks
        try:
            task = tasks[0]
            if task.is_async is is_async:
                self._running = task  # before it leaves the others, or a drain might miss it
                return tasks.popleft()
        except IndexError:
            self._running = None
        return None

    def _finish(self) -> bool:
        """Leave the state ``released`` unless tasks were added meanwhile; tell whether it did."""
        with self._lock:
            if self._tasks or self._awaited is not None:
                return False
            self._state = self._state_when_done()
            self._running = self._driver = None
            slots, self._slots = self._slots, 0
            wakers, self._wakers = self._wakers, []
        self.runtime.backlog.leave(self, slots)
        for waker in wakers:
            waker()
        return True

    def _when_finished(self, waker: Callable[[], None]) -> bool:
        """Have ``waker`` called when the queue has finished; False if it has already."""
        with self._lock:
            if self._state is RUNNING:
                self._wakers.append(waker)
                return True
            return False

    def _abandon(self) -> list[Task]:
        """A drain gives up on this queue: take what waits, cancel what can be cancelled."""
        with self._lock:
            left = [] if self._abandoned else self._left()
            self._tasks.clear()
            self._abandoned = True
        if self._driver is not None:
            from bgadapters.core.loop import cancel

            cancel(self._driver)
        return left

    def _left(self) -> list[Task]:
        """What runs and what waits, in this order, so that a task just being taken is in one."""
        waiting = list(self._tasks)
        running = self._running
        return waiting if running is None else [running, *(t for t in waiting if t is not running)]

    def _never_released(self) -> None:
        self.runtime.backlog.free_later(self._slots)
        count = len(self._tasks)
        cause = (
            "their queue was never released: the server or an adapter did not close the response, "
            "or a BackgroundTasks() was neither used in a 'with' block nor released"
        )
        self.runtime.events.discarded(list(self._tasks), cause)
        warnings.warn(
            f"{count} background task(s) never ran ({names(list(self._tasks))}): {cause}",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )


class WithOptions:
    """A queue's ``add_task`` with options, which take no name from the task's own arguments."""

    __slots__ = ("_options", "_queue")

    def __init__(self, queue: BackgroundTasks, options: Options) -> None:
        self._queue = queue
        self._options = options

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Add a call to be made after the response; as `BackgroundTasks.add_task`."""
        self._queue._add(self._options, func, args, kwargs)

    def options(self, **options: Unpack[OptionNames]) -> WithOptions:
        """Return the same with further options; as `BackgroundTasks.options`."""
        return WithOptions(self._queue, checked_options(self._options, options))
