"""What an application enters around its tasks: the setting ``task_middleware``.

A task that has middlewares is a `Task` of another type, made by ``add_task``: its call enters
them. So one that has none costs nothing more, and no driver knows of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    nullcontext,
    suppress,
)
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Protocol

from bgadapters.core.model import lines
from bgadapters.core.model.context import owner
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.options import Options
from bgadapters.core.model.outcome import ResponseOutcome
from bgadapters.core.model.record import Record, Recorded
from bgadapters.core.model.task import (
    FullTask,
    Surrounded,
    Task,
    callable_name,
    forgo,
    is_awaitable,
)

Around = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]
"""What is entered around an attempt to run a task."""


class TaskInfo(Recorded):
    """A task, for a middleware to read.

    Attributes:
        attempt: which attempt to run it this is, from 1.
        is_async: whether what is entered may be an asynchronous context manager. A plain function
            that has returned an awaitable is entered twice: around its call, where this is False,
            and around what is awaited, where it is True.
    """

    __slots__ = ("_task", "attempt", "is_async")

    def __init__(self, task: Task, record: Record, is_async: bool) -> None:
        self._task = task
        self._record = record
        self.attempt = record.attempt
        self.is_async = is_async

    @property
    def id(self) -> str:
        """That of the task, the same in all attempts, and the ``task_id`` of its events."""
        return self._record.id

    @property
    def name(self) -> str:
        """What logs and events call it."""
        return self._task.name

    @property
    def func(self) -> Callable[..., Any]:
        """The function; of a task object of another framework, that which it is for."""
        func: Callable[..., Any] = self._task.unwrap().func
        return func

    @property
    def args(self) -> tuple[Any, ...]:
        """Its positional arguments."""
        return self._task.unwrap().args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Its keyword arguments, read-only."""
        return MappingProxyType(self._task.unwrap().kwargs)

    @property
    def options(self) -> Options:
        """Those of ``options(...)``, or their defaults."""
        return self._task.options

    @property
    def deadline(self) -> float | None:
        """When this attempt should have ended, as `time.monotonic` tells it.

        None without a ``timeout``, and while the task does not run.
        """
        batch = owner.get()
        running = None if batch is None else batch.running
        is_it = running is not None and running.record is self._record
        return running.deadline if is_it else None  # type: ignore[union-attr]  # it runs

    @property
    def response(self) -> ResponseOutcome | None:
        """How the response has ended in which the task was added.

        None if there was none, as in a script, and while it has not ended.
        """
        return self._record.origin.outcome

    def __repr__(self) -> str:
        return f"<TaskInfo {self.name}>"


class TaskMiddleware(Protocol):
    """Carries something of a request into its tasks, or watches them.

    A subclass defines what it needs of the two methods. Any other object with a method ``around``
    will do as well, and so will a function of one argument, the `TaskInfo`, that returns a
    context manager.
    """

    def capture(self, task: TaskInfo) -> Any:  # noqa: ARG002  a subclass reads it
        """Return what ``around`` is to get; called by ``add_task``, where the request is at hand.

        Args:
            task: the task that is being added.

        Returns:
            None, or what survives JSON: None, bool, int, float, str, and lists and dicts (whose
            keys are strings) of these. It may travel to another process.

        What it raises is raised by ``add_task``: the task is not added.
        """
        return None

    def around(self, task: TaskInfo, captured: Any) -> Around:  # noqa: ARG002
        """Return a context manager that is entered around each attempt to run the task.

        It is entered in the task's own context variables, inside the framework's own scope, in
        the thread or asyncio task that runs the task. It may be asynchronous where
        ``task.is_async``.

        Args:
            task: the task that is about to run.
            captured: what ``capture`` has returned.

        What it raises fails the task. What the task raises goes through it. A task that has
        raised has failed, even if the context manager suppresses that.
        """
        return nullcontext()


class _Entry(NamedTuple):
    name: str
    capture: Callable[[TaskInfo], Any] | None
    around: Callable[[TaskInfo, Any], Any]


class TaskMiddlewares:
    """The middlewares of one application, put together.

    Args:
        middlewares: what `checked_middleware` has returned; the first one is the outermost.
    """

    def __init__(self, middlewares: Sequence[Any]) -> None:
        self._entries = tuple(_entry(each) for each in middlewares)

    def applied_to(self, task: Task, record: Record) -> Task:
        """Capture for a task that is being added; return it as one that enters the middlewares.

        Args:
            task: the task.
            record: what is known of it.

        Raises:
            TypeError: what was captured does not survive JSON.
            BaseException: what a middleware raises.
        """
        info = TaskInfo(task, record, bool(task.is_async))
        captured = tuple(_capture(entry, info) for entry in self._entries)
        is_needed = any(each is not None for each in captured)
        return self._wrapped(task, record, captured if is_needed else None)

    def restored_to(self, task: Task, record: Record, captured: Sequence[Sequence[Any]]) -> Task:
        """Do as `applied_to` for a task of which another process has captured.

        Args:
            task: the task.
            record: what is known of it.
            captured: what `captured_by` has told there.
        """
        left = list(captured)
        found: list[Any] = []
        for entry in self._entries:  # two may have one name, and there may be others by now
            pair = next((pair for pair in left if pair[0] == entry.name), None)
            found.append(None if pair is None else left.pop(left.index(pair))[1])
        return self._wrapped(task, record, tuple(found))

    def _wrapped(self, task: Task, record: Record, captured: tuple[Any, ...] | None) -> Task:
        kind = _WrappedAsyncTask if task.is_async else _WrappedTask
        return kind(task, record, self._entries, captured)


def captured_by(task: Task) -> list[tuple[str, Any]]:
    """Return what the middlewares have captured for a task, each with its name; JSON."""
    return task.captured if isinstance(task, _WrappedTask) else []


class _WrappedTask(FullTask):
    """A task whose call enters middlewares."""

    __slots__ = ("_captured", "_entries", "_record")

    def __init__(
        self,
        task: Task,
        record: Record,
        entries: tuple[_Entry, ...],
        captured: tuple[Any, ...] | None,
    ) -> None:
        super().__init__(task.func, task.args, task.kwargs, task.context, task.options)
        self.record = self._record = record
        self._entries = entries
        self._captured = captured

    @property
    def captured(self) -> list[tuple[str, Any]]:
        """What was captured, with the names of the middlewares; nothing if none has."""
        captured = self._captured or ()
        return [(e.name, each) for e, each in zip(self._entries, captured, strict=False)]

    def call(self) -> Any:
        if self.is_async:
            return self.acall(None)
        with ExitStack() as stack:
            for around in self._arounds(is_async=False):
                stack.enter_context(around)
            result = super().call()
        if result is not None and is_awaitable(result):
            return Surrounded(self.acall, result)
        return result

    async def acall(self, result: Awaitable[Any] | None) -> Any:
        """Await the call in the middlewares, or what it has returned already."""
        async with AsyncExitStack() as stack:
            for around in self._arounds(is_async=True):
                await stack.enter_async_context(around)
            if result is None:
                result = super().call()
            while result is not None and is_awaitable(result):
                result = await result
        return result

    def _arounds(self, is_async: bool) -> Iterator[_Around]:
        info = TaskInfo(self, self._record, is_async)
        captured = self._captured or (None,) * len(self._entries)
        return (
            _Around(entry, info, each) for entry, each in zip(self._entries, captured, strict=True)
        )


class _WrappedAsyncTask(_WrappedTask):
    """One that belongs on an event loop."""

    __slots__ = ()

    is_async = True


class _Around:
    """One middleware around one attempt: it is named in what it raises, and hides no failure."""

    __slots__ = ("_captured", "_entry", "_info", "_manager")

    def __init__(self, entry: _Entry, info: TaskInfo, captured: Any) -> None:
        self._entry = entry
        self._info = info
        self._captured = captured
        self._manager: Any = None

    def __enter__(self) -> None:
        try:
            self._make("__enter__").__enter__()
        except BaseException as exc:
            _name(self._entry, exc)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._manager.__exit__(kind, raised, traceback)
        except BaseException as exc:
            if exc is not raised:
                _name(self._entry, exc)
            raise

    async def __aenter__(self) -> None:
        try:
            manager = self._make("__aenter__", "__enter__")
            if hasattr(manager, "__aenter__"):
                await manager.__aenter__()
            else:
                manager.__enter__()
        except BaseException as exc:
            _name(self._entry, exc)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not hasattr(self._manager, "__aexit__"):
            self.__exit__(kind, raised, traceback)
            return
        if kind is GeneratorExit:  # thrown away with its loop, on which nothing can be awaited
            return
        try:
            await self._manager.__aexit__(kind, raised, traceback)
        except BaseException as exc:
            if exc is not raised:
                _name(self._entry, exc)
            raise

    def _make(self, *needed: str) -> Any:
        manager = self._entry.around(self._info, self._captured)
        if not any(hasattr(manager, each) for each in needed):
            raise TypeError(_no_manager(manager, self._info))
        self._manager = manager
        return manager


def _capture(entry: _Entry, info: TaskInfo) -> Any:
    if entry.capture is None:
        return None
    try:
        value = entry.capture(info)
        return None if value is None else _as_json(value)
    except BaseException as exc:
        _name(entry, exc)
        raise


def _as_json(value: Any) -> Any:
    """Return a copy, so that what the view still changes is not seen by the task."""
    import_whole("bgadapters.core.model.portable")
    from bgadapters.core.model.portable import json_copy

    try:
        return json_copy(value)
    except ValueError as exc:
        shown = lines.text(lambda: repr(value), "what has no repr")
        raise TypeError(
            "capture() has to return None or what survives JSON (bool, int, float, str, list, dict "
            f"with str keys), for it may travel to another process; it has returned {shown} of "
            f"type {lines.name_of_type(value)}: {exc}"
        ) from exc


def _no_manager(value: Any, info: TaskInfo) -> str:
    if hasattr(value, "__aenter__"):
        return (
            f"around() has returned an asynchronous context manager for {info.name}, which runs in "
            "a thread. Return a plain one where task.is_async is False."
        )
    forgo(value)
    shown = lines.text(lambda: repr(value), "what has no repr")
    return (
        f"around() has to return a context manager, not {shown} of type "
        f"{lines.name_of_type(value)}. Is @contextmanager or @asynccontextmanager missing?"
    )


def _name(entry: _Entry, exception: BaseException) -> None:
    with suppress(Exception):  # an exception may refuse to be changed
        exception.add_note(f"Raised in the task middleware {entry.name}.")


def _entry(middleware: Any) -> _Entry:
    name = lines.text(lambda: callable_name(middleware), lines.name_of_type(middleware))
    around = getattr(middleware, "around", None)
    if around is None:
        return _Entry(name, None, lambda info, _: middleware(info))
    capture = getattr(middleware, "capture", None)
    is_inherited = getattr(type(middleware), "capture", None) is TaskMiddleware.capture
    return _Entry(name, None if is_inherited else capture, around)


def checked_middleware(value: Any) -> Any:
    """Return what is to be one of the middlewares; of a class of middlewares, an object.

    Raises:
        TypeError: it cannot be called as one; the message says why.
        Exception: what its class raises.
    """
    if isinstance(value, type) and hasattr(value, "around"):
        value = value()
    if not hasattr(value, "around"):
        _check(value, "it", "the task", is_manager=True)
        return value
    _check(value.around, "around()", "the task", "what was captured", is_manager=True)
    if hasattr(value, "capture"):
        _check(value.capture, "capture()", "the task", is_manager=False)
    return value


def _check(func: Any, name: str, *arguments: str, is_manager: bool) -> None:
    import inspect

    try:
        inspect.signature(func).bind(*arguments)
    except ValueError:  # it does not tell
        return
    except TypeError as exc:
        raise TypeError(f"{name} is called with {' and '.join(arguments)}: {exc}") from exc
    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    if any(is_kind(func) for is_kind in kinds):
        if is_manager:
            raise TypeError(f"{name} lacks @contextmanager or @asynccontextmanager")
        raise TypeError(f"{name} has to be a plain function")
