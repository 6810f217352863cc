"""What a view holds: the queue of its response."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cache
from time import monotonic
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Never, ParamSpec, Protocol, Self, Unpack

from bgadapters.core.api import current
from bgadapters.core.model import mode
from bgadapters.core.model.arguments import HARMLESS, SESSIONS, check_call
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.batch_state import OPEN, RUNNING
from bgadapters.core.model.context import owner
from bgadapters.core.model.errors import NOT_A_FIELD, BackgroundTasksError
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.mode import SERVING
from bgadapters.core.model.options import (
    DEFAULT_OPTIONS,
    LOCAL,
    NO_OPTIONS,
    OptionNames,
    Options,
    TaskOptions,
)
from bgadapters.core.model.precondition import Precondition, failure_among
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import GENERATES, NOT_PLAIN, AsyncTask, Call, Task, examined, made

if TYPE_CHECKING:
    from bgadapters.core.api.adding import Adding
    from bgadapters.core.app.runtime import Runtime, SentBefore, Written
    from bgadapters.core.model.control import Feature
else:
    Runtime = Any  # FastAPI reads the annotations of the constructor, where a queue is misused

P = ParamSpec("P")


class _Renamed:
    """A name that something had before. With a ``__getattr__`` no name is looked up fast."""

    def __init__(self, new: str) -> None:
        self._new = new

    def __set_name__(self, _: type, name: str) -> None:
        self._old = name

    def __get__(self, _: object, __: type) -> Never:
        raise AttributeError(f"BackgroundTasks.{self._old} is called {self._new} now")


class _NotAField:
    """Refuses where pydantic is asked to read an argument of a queue out of a request."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: object) -> None:
        raise TypeError(NOT_A_FIELD)


class CallLike(Protocol):
    """A function and its arguments, in whatever object."""

    @property
    def func(self) -> Callable[..., Any]: ...  # noqa: D102
    @property
    def args(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def kwargs(self) -> Mapping[str, Any]: ...  # noqa: D102


class TaskAdder:
    """``add_task`` of a queue, with options or without."""

    __slots__ = ()

    runtime: Runtime
    batch: Batch
    given: TaskOptions
    is_plain: bool
    task_options: Options

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
            TypeError: ``func`` cannot be called, or for certain not with these arguments; is a
                coroutine object; or is a generator function, of which a call runs nothing.
            QueueClosedError: the queue was released or closed.
            QueueFullError: ``max_pending`` tasks wait already and ``on_full="reject"``, or
                this queue's own tasks have added ``max_pending`` tasks to it.
            NotPortableError: with the setting ``strict_portable`` or the option ``durable``, a
                function that cannot be imported by name or an argument that JSON does not keep.
            StoreUnavailableError: a durable task cannot be kept in the transaction that is open
                here, or the server runs no threads.
            BaseException: what a middleware of the setting ``task_middleware`` raises in
                ``capture``; it has a note that names the middleware.

        Warns:
            RequestScopedWarning: an argument is a session of SQLAlchemy, or an object of one.
        """
        # Of a plain function with as many arguments as it has parameters nothing more is asked.
        # This asks for each attribute once: Python looks up those of functions and code slowly.
        is_plain = self.is_plain
        if (
            type(func) is FunctionType
            and not kwargs
            and not func.__dict__
            and (code := func.__code__).co_argcount == len(args)
            and not code.co_kwonlyargcount
            and not (flags := code.co_flags) & GENERATES
        ):
            is_async = flags & NOT_PLAIN != 0
            if args and SESSIONS in sys.modules and not HARMLESS.issuperset(map(type, args)):
                _warn_of_sessions(func, args, kwargs)
        else:
            func, is_async, is_marked = _examined(func, args, kwargs)
            is_plain = is_plain and not is_marked
        runtime, batch = self.runtime, self.batch
        if (  # as where nobody asks for more: this is what a plain task costs
            is_plain
            and runtime.adds_plainly
            and mode.active is SERVING
            and batch.state is OPEN  # so that it is no task of this queue that adds another one
            and (runtime.signals is None or not runtime.signals.has_receivers())
        ):
            options = self.task_options
            if kwargs or options is not DEFAULT_OPTIONS:
                task = made(func, args, kwargs or None, runtime.task_context(), options, is_async)
            else:
                task = (AsyncTask if is_async else Task)(func, args, runtime.task_context())
            if runtime.preconditions is None or not options.on_commit:
                batch.add(task)
            else:
                batch.add(task, runtime.preconditions(batch))
        else:
            self._add_with_all(func, args, kwargs or None, is_async, is_plain)

    def _batch_here(self) -> Batch:
        """The batch to add to: where a task of this queue has a batch of its own, that one."""
        batch, own = self.batch, owner.get()
        if own is None or own is batch or batch.is_open or not own.is_of(batch):
            return batch
        return own if own.is_running else batch

    def _add_with_all(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        is_async: bool,
        is_plain: bool,
    ) -> None:
        """Add a call with the hooks, checks, bounds and middlewares that somebody has asked for."""
        runtime, here, options = self.runtime, self._batch_here(), self.task_options
        if not is_plain or runtime.default_options is not DEFAULT_OPTIONS:
            options = self._resolved(func)
        if options.durable and here is self.batch:
            call = (func, args, kwargs or {})
            kept = _add_usual()(runtime, here, self.given, options, call, is_async)
            if kept is not None:
                self._tell_of(here, kept)
                return
        adding = None
        if options.durable or options.engine != LOCAL:
            adding = _adding()(runtime, self.given, options, func, is_async)
            func, is_async, options = adding.func, adding.is_async, adding.options
        task = made(func, args, kwargs, runtime.task_context(), options, is_async)
        task = self._wrapped(task, here, () if adding is None else adding.features())
        batch = runtime.admission.batch_for(here, task)
        preconditions = self._preconditions(batch, options)
        if adding is not None:
            preconditions = (*preconditions, *adding.prepare(here, task))
        runtime.admission.admit(batch, task, preconditions)
        if adding is not None:
            adding.keep(batch, task, is_of_response=batch is here)
        self._tell_of(batch, task)
        if adding is not None:
            adding.added(batch, task, is_of_response=batch is here)
        if not preconditions:
            runtime.admission.admitted(batch, task)
        if batch is not here:  # it has left the order of a batch that runs
            runtime.scheduler.release(batch)

    def _tell_of(self, batch: Batch, task: Task) -> None:
        """A task was added: tell those who want to hear."""
        runtime, active = self.runtime, mode.active
        if active.observes:
            active.added(batch, task, runtime.scheduler)
        if runtime.events.has_hooks():
            runtime.events.added(batch, task)

    def _preconditions(self, batch: Batch, options: Options) -> Iterable[Precondition]:
        """What a task waits for, besides its response."""
        found: Iterable[Precondition] = ()
        if self.runtime.preconditions is not None and options.on_commit:
            found = self.runtime.preconditions(batch)
        return (*found, failure_among(batch.preconditions)) if options.run_on == "error" else found

    def _wrapped(self, task: Task, batch: Batch, features: Sequence[Feature]) -> Task:
        """Check a task that is being added; return what its options and middlewares make of it."""
        runtime = self.runtime
        # What is not added with the first one, or heard of, has a time of its own.
        if runtime.events.has_hooks() or batch.is_live or batch.state is RUNNING:
            task.record = Record(batch, monotonic())
        if runtime.is_strict or mode.active.strict_portable:
            import_whole("bgadapters.core.model.portable")
            from bgadapters.core.model.portable import check_portable

            check_portable(task)
        if runtime.middlewares is not None:
            record = task.record or Record(batch, monotonic())
            task = runtime.middlewares.applied_to(task, record)
        if task.options is DEFAULT_OPTIONS:
            return task
        return runtime.controlled(task, batch, features)

    def _resolved(self, func: Any) -> Options:
        """The options of a call: what was given goes before the function's own and the defaults."""
        options, marked = self.runtime.default_options, marked_options(func)
        if marked is None and options is DEFAULT_OPTIONS:
            options = self.task_options  # the same, and checked
        else:
            if marked is not None:
                options = marked.over(options)
            options = self.given.over(options)
            self.runtime.check_options(options)
        if options.session is not None and not (
            options.durable or options.send == "in_transaction"
        ):
            raise TypeError(
                "options(session=...) says in whose transaction a task is kept or sent, which it "
                "is not without durable=True or send='in_transaction'"
            )
        if options.send != "after_response" and options.engine == LOCAL:
            raise TypeError(
                f"options(send={options.send!r}) says when a task is sent to an engine, and no "
                "engine=... is given"
            )
        return options


def _examined(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool, bool]:
    """Check a call that is being added.

    Returns:
        What is to be called, whether that belongs on an event loop, and whether it has options by
        itself.

    Raises:
        TypeError: as `TaskAdder.add_task`.
    """
    func, is_async = examined(func)
    is_marked = marked_options(func) is not None
    check_call(func, args, kwargs)
    if SESSIONS in sys.modules:
        _warn_of_sessions(func, args, kwargs)
    return func, is_async, is_marked


def _warn_of_sessions(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    import_whole("bgadapters.core.api.sessions")
    from bgadapters.core.api.sessions import warn_of_sessions

    warn_of_sessions(func, args, kwargs)


@cache  # to import it each time would cost more than what it does
def _adding() -> type[Adding]:
    import_whole("bgadapters.core.api.adding")
    from bgadapters.core.api.adding import Adding

    return Adding


@cache  # for the same reason
def _add_usual() -> Callable[..., Task | None]:
    import_whole("bgadapters.core.api.keeping")
    from bgadapters.core.api.keeping import add_usual

    return add_usual


class BackgroundTasks(TaskAdder):
    """The tasks of one response, run one at a time in the order added once it is released.

    The shims make one for each response and release it when the framework closes
    that response. By itself it is a context manager that releases at the end of
    its block, and closes it without running what was added if the block raises::

        with BackgroundTasks() as tasks:
            tasks.add_task(write_notification, email)

    ``with`` hands the tasks to worker threads and goes on; ``async with`` waits
    until they have run, since an event loop that ends takes its tasks with it.
    An instance is also a valid Starlette ``background=``.

    Args:
        tasks: tasks to begin with: objects with ``func``, ``args`` and ``kwargs``, such as
            Starlette's ``BackgroundTask``. Default: none.
        runtime: the settings, workers and hooks to run with. Default: those of the process.
        path: that of the request, for observers. Default: None.
        method: that of the request, for observers. Default: None.

    Attributes:
        runtime: that of the application. For authors of shims.
        batch: what runs. For the core and observers.

    Raises:
        TypeError: ``tasks`` are no such objects, or one of them is refused by `add_task`.
    """

    __slots__ = ("__weakref__", "_previous", "batch", "runtime")

    is_used = True
    """Whether it has a batch. One of which that is not so has no tasks. For authors of shims."""
    loop: Any = None
    """The event loop of its response, for what `flush` lets run. Default: that which runs here."""
    given = NO_OPTIONS
    is_plain = True
    task_options = DEFAULT_OPTIONS

    def __init__(
        self,
        tasks: Annotated[Iterable[CallLike] | None, _NotAField] = None,
        *,
        runtime: Runtime | None = None,
        path: str | None = None,
        method: str | None = None,
    ) -> None:
        self.runtime = _runtime_of_the_process() if runtime is None else runtime
        self.batch = Batch(path, 0, None, self.runtime.scheduler.on_lost, method)
        self._previous: Any = None  # the current queue around a with block
        if tasks is not None:
            self._begin_with(tasks)

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        """Return this queue's ``add_task`` with options.

        Args:
            base: a set of options. Default: none.
            options: see `Options`; they go before those of ``base``, and all of them before those
                of ``@task_options`` and of the setting ``defaults``.

        Raises:
            TypeError: an option that is not accepted, a value that is none of its values, or two
                options that contradict each other.
        """
        return WithOptions(self, TaskOptions.parsed(base, options, "options"))

    def release(self) -> None:
        """The response is complete: let the tasks run. Does not wait for them.

        Where an event loop is running the tasks are driven by it, otherwise by the
        runtime's worker threads. Later calls do nothing.
        """
        if self.batch.unconfirmed is not None:
            self._confirm_late()
        self.runtime.scheduler.release(self.batch, self.release)

    async def arelease(self) -> None:
        """Release, and wait until the tasks have run. Cancelling the wait cancels no task.

        Raises:
            RuntimeError: there are tasks and the running event loop is not asyncio's.
        """
        waiting = self.begin_release()
        if waiting is not None:
            await waiting

    def begin_release(self) -> Coroutine[Any, Any, None] | None:
        """Do as `arelease` up to where that would wait. For authors of shims.

        Returns:
            What is to be awaited then, at once; None if the tasks have run.

        Raises:
            RuntimeError: as `arelease`.
        """
        batch = self.batch
        if batch.unconfirmed is not None:
            self._confirm_late()
        left = self.runtime.scheduler.release_awaited(batch, self.release)
        if not left:
            return None
        if len(left) > 1:
            return self._wait_for(left)
        from bgadapters.core.drivers.waiting import finished

        return finished(left[0], self.runtime.adrain)  # no coroutine more than it takes

    async def _wait_for(self, batches: Iterable[Batch]) -> None:
        from bgadapters.core.drivers.waiting import finished

        for batch in batches:
            if batch.is_unfinished:
                await finished(batch, self.runtime.adrain)

    async def __call__(self) -> None:
        """Do as `arelease`: this makes the queue a valid Starlette ``background``."""
        await self.arelease()

    def discard(
        self,
        exception: BaseException,
        since: int = 0,
        which: Callable[[Task], bool] | None = None,
    ) -> None:
        """The view's response failed: discard what was added, except ``always`` tasks.

        The queue stays open, for the response that is sent instead. Tasks that were added while
        this exception was handled, where it is handled now, are that response's own: they stay.

        Args:
            exception: why the response failed.
            since: its `position` when the part of it that failed began; what was added before
                stays. Default: 0.
            which: tells whether a task is of the part that failed; called under a lock. Default:
                all are.
        """
        self.runtime.scheduler.discard(self.batch, exception, since, which)

    def close(self, exception: BaseException) -> None:
        """No response came of it: discard the tasks and run those added with ``always=True``."""
        if self.batch.unconfirmed is not None:
            self.discard(exception)  # what is left is to be kept
            self._confirm_late()
        self.runtime.scheduler.close(self.batch, exception)

    def confirm(self) -> None:
        """Wait until what was added is kept that has to be. For authors of shims.

        To be called when the view has returned, before the first byte of the response, if
        ``batch.unconfirmed`` is not None; and before the last byte.

        Raises:
            StoreUnavailableError: it cannot be kept. No response should say that it was.
        """
        written, sends = self._begin_to_keep(waits=True)
        if written is not None:
            written.wait()
        for each in sends:
            each.send()

    async def aconfirm(self) -> None:
        """Do as `confirm`, without blocking the event loop."""
        written, sends = self._begin_to_keep()
        if written is not None:
            try:
                await written.received()
            except BackgroundTasksError:
                raise
            except BaseException:  # it was cancelled
                self._tell(written)
                raise
        for each in sends:
            await each.asend()

    def _confirm_late(self) -> None:
        """Have kept what nobody waits for. What was to be sent before is sent in its turn."""
        written, _ = self._begin_to_keep()
        if written is not None:
            self._tell(written)

    def _tell(self, written: Written) -> None:
        from bgadapters.core.outbox.outbox import say_what_was_not_kept

        written.tell(say_what_was_not_kept)

    def _begin_to_keep(self, waits: bool = False) -> tuple[Written | None, Sequence[SentBefore]]:
        from bgadapters.core.app.runtime import SentBefore

        found, outbox = self.batch.take_unconfirmed(), self.runtime.outbox
        sends = [each for each in found if isinstance(each, SentBefore)]
        kept = [each for each in found if not isinstance(each, SentBefore)] if sends else found
        written = outbox.confirm(kept, waits) if kept and outbox is not None else None
        return written, sends

    def forget(self, key: str) -> bool:
        """Discard the task of this application that waits with a key, whoever has added it.

        At once, and not with the response. One that runs goes on, and so does one whose response
        is not complete.

        Args:
            key: as the option ``key``.

        Returns:
            Whether one waited.

        Raises:
            TypeError: no key.
        """
        given: Any = key
        if not isinstance(given, str) or not given:
            raise TypeError(f"forget() accepts a string that is not empty, not {given!r}")
        return self.runtime.scheduler.turns.forget(key)

    def flush(self) -> None:
        """Let the tasks that were added so far run now, though the response goes on.

        For what lasts: a stream, server-sent events, a connection that was taken over, a loop in
        a command. They run in the order added, and before those that are added later. A later
        failure of the response discards the later ones alone. Tasks that wait for a commit still
        do, and those behind them. Those with ``run_on="error"`` wait for the end of the response.

        Any thread may call it. Where nothing waits, or the queue was released, it does nothing.

        Raises:
            QueueFullError: with those flushed before, more than ``max_pending`` tasks of this
                queue would wait.
        """
        if self.batch.unconfirmed is not None:
            self._confirm_late()
        self.runtime.scheduler.flush(self.batch, self.loop)

    def note_response(
        self,
        status: int | str | None = None,
        exception: BaseException | None = None,
        client_left: bool = False,
    ) -> None:
        """Note how the response ends, for tasks to read. For authors of shims.

        To be called before `release`, and as often as more is known.

        Args:
            status: its status code, or the status line of WSGI. Default: what was noted before.
            exception: what made it fail; `discard` and `close` note it by themselves. Default:
                what was noted before.
            client_left: whether its client was seen to leave.
        """
        self.batch.note_response(status, exception, client_left)

    def wait_for_capacity(self) -> None:
        """Wait in this thread until ``max_pending`` leaves room for the tasks, and take it."""
        if not self.take_capacity():
            self.runtime.admission.wait_for_capacity(self.batch)

    async def await_capacity(self) -> None:
        """Do as `wait_for_capacity`, without blocking the event loop."""
        if not self.take_capacity():
            await self.runtime.admission.await_capacity(self.batch)

    def take_capacity(self) -> bool:
        """Take room for the tasks if there is some now; tell whether none is lacking any more."""
        batch = self.batch
        return batch.state is not OPEN or self.runtime.admission.try_reserve(batch)

    @property
    def tasks(self) -> tuple[Call, ...]:
        """The calls that wait, in their order: each has ``func``, ``args`` and ``kwargs``.

        It is a copy: what is to be added goes through `add_task`.
        """
        return tuple(task.unwrap() for task in tuple(self.batch.waiting))

    @property
    def position(self) -> int:
        """What `discard` accepts as ``since``: how many tasks it has held so far."""
        return self.batch.position

    @property
    def is_open(self) -> bool:
        """Whether the queue was neither released nor closed yet."""
        return self.batch.state is OPEN

    def __len__(self) -> int:
        """The number of tasks that wait."""
        return len(self.batch.waiting)

    def __bool__(self) -> bool:
        """True, empty or not: a queue is there to be added to."""
        return True

    def __repr__(self) -> str:
        return f"<BackgroundTasks {self.batch.state}, {len(self.batch.waiting)} waiting>"

    drop = _Renamed("discard")
    take_all = _Renamed("close")
    put_back = _Renamed("batch.put_back")
    gates = _Renamed("batch.preconditions")
    is_running = _Renamed("batch.is_running")
    is_abandoned = _Renamed("batch.is_abandoned")
    path = _Renamed("batch.path")
    attach = _Renamed("options(priority=, delay=, run_after=).add_task")
    priority = _Renamed("options(priority=).add_task")

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

    def _begin_with(self, tasks: Iterable[CallLike]) -> None:
        try:
            calls = [(task.func, task.args, task.kwargs) for task in tasks]
        except (TypeError, AttributeError) as exc:
            raise TypeError(
                "BackgroundTasks() accepts a list of tasks that have func, args and kwargs, as "
                f"Starlette's BackgroundTask has, and is no decorator; got {tasks!r}"
            ) from exc
        try:
            for func, args, kwargs in calls:
                self.add_task(func, *args, **kwargs)
        except BaseException as exc:
            self.close(exc)
            raise

    def _leave_block(self, exc: BaseException | None) -> None:
        current.leave(self, self._previous)
        self._previous = None
        if exc is not None:
            self.close(exc)


class WithOptions(TaskAdder):
    """A queue's ``add_task`` with options, which take no name from the task's own arguments."""

    __slots__ = ("batch", "given", "is_plain", "runtime", "task_options")

    def __init__(self, queue: TaskAdder, given: TaskOptions) -> None:
        self.runtime = queue.runtime
        self.batch = queue.batch
        self.given = given
        self.is_plain = given.is_plain
        self.task_options = given.over(DEFAULT_OPTIONS)
        self.runtime.check_options(self.task_options)

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        """Return the same with further options; as `BackgroundTasks.options`."""
        given = TaskOptions.parsed(base, options, "options")
        return WithOptions(self, given.based_on(self.given))


def _runtime_of_the_process() -> Runtime:
    # What runs tasks is imported with the first application, by the shim of a framework or here.
    import_whole("bgadapters.core.app.runtime")
    from bgadapters.core.app.runtime import default_runtime

    return default_runtime()
