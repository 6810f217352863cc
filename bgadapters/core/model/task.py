"""One call, decided now and made later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextvars import Context
from functools import partial, update_wrapper
from types import CoroutineType, FunctionType
from typing import Any, NamedTuple

from bgadapters.core.model import lines
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.options import DEFAULT_OPTIONS, Options
from bgadapters.core.model.record import Record

# The flags of a code object, by the names that inspect has for them. It is imported only where
# it is needed, for it would be a third of what importing this package costs.
CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
_ASYNC = CO_COROUTINE | CO_ITERABLE_COROUTINE
GENERATES = CO_GENERATOR | CO_ASYNC_GENERATOR
NOT_PLAIN = _ASYNC | GENERATES


class Task:
    """A callable with its arguments, and the context it was added in.

    What has keyword arguments, or options of its own, is a `FullTask`; what belongs on an event
    loop is an `AsyncTask`. Few are the former, so that room for it is left away in all others.

    Args:
        func: what is called.
        args: its positional arguments.
        context: that in which it is called.

    Attributes:
        record: what is known of its life; None if nobody has asked.
    """

    __slots__ = ("args", "context", "func", "record")

    kwargs: dict[str, Any] | None = None
    """Its keyword arguments; None where there are none."""
    options: Options = DEFAULT_OPTIONS
    is_async = False
    """Whether it belongs on an event loop."""
    leaves_order = False
    """Whether it does not take its turn in its response, but gets a batch of its own."""
    deadline: float | None = None
    """When the attempt that runs should have ended, as `time.monotonic` tells it."""
    is_delayed = False
    """Whether it does not start when its response is complete, but at a later time."""
    observer: Any = None
    """A `TaskObserver` that is told what becomes of it, beside its function if that is one."""
    may_hurry = False
    """Whether it waits for a back-off alone, so that it need not when its process ends."""
    is_older = False
    """Whether it was released before all that waits here, in a process that has ended."""
    is_sent = False
    """Whether its turn is that of being sent: it goes before the others, and starts elsewhere."""
    hands_back = False
    """Whether somebody else makes its next attempt."""
    is_kept = False
    """Whether another process runs it if this one does not."""
    failures: Sequence[str] = ()
    """What its earlier attempts have raised, in short."""

    def __init__(self, func: Any, args: tuple[Any, ...], context: Context) -> None:
        self.func = func
        self.args = args
        self.context = context
        self.record: Record | None = None

    @property
    def name(self) -> str:
        """What logs and events call this task."""
        try:
            return lines.escaped(str(self.options.name or callable_name(self.func)))
        except BaseException:  # a callable may refuse to be looked at
            return lines.name_of_type(self.func)

    def unwrap(self) -> Call:
        """Return the call as whoever added the task has written it."""
        if type(self.func) is not FunctionType and isinstance(self.func, TaskWrapper):
            return self.func.unwrap(self)
        return Call(self.func, self.args, self.kwargs or {})

    def call(self) -> Any:
        """Make the call. Of an async task this returns the awaitable."""
        return self.func(*self.args)

    def due(self) -> float | None:
        """The time before which it does not start, as `time.monotonic` tells it; None for none."""
        return None

    def next_attempt(self, exception: BaseException) -> Wait | None:  # noqa: ARG002
        """An attempt has raised: return how long to wait for the next one; None for no other."""
        return None

    def on_key_entered(self) -> None:
        """It was released, and waits with its key from now on."""

    def begin_again(self) -> None:
        """There is a next attempt: make ready for it."""

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class AsyncTask(Task):
    """A task that belongs on an event loop: a type of its own, which takes no room in each task."""

    __slots__ = ()

    is_async = True


class FullTask(Task):
    """A task with keyword arguments, or with options of its own.

    Args:
        func: as for `Task`.
        args: as for `Task`.
        kwargs: its keyword arguments; None if there are none.
        context: as for `Task`.
        options: how it is treated.
    """

    __slots__ = ("kwargs", "options")

    def __init__(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context,
        options: Options,
    ) -> None:
        super().__init__(func, args, context)
        self.kwargs = kwargs
        self.options = options

    def call(self) -> Any:
        """As the base, with its keyword arguments."""
        if self.kwargs is None:
            return self.func(*self.args)
        return self.func(*self.args, **self.kwargs)


class AsyncFullTask(AsyncTask, FullTask):
    """Both."""

    __slots__ = ()


class Wait(NamedTuple):
    """How long a task waits for its next attempt.

    Attributes:
        seconds: so long, at least.
        is_asked_for: whether somebody has asked for that time. What waits for a back-off alone
            need not wait when its process ends.
        is_news: whether the log says at WARNING why it waits, and not at DEBUG.
    """

    seconds: float
    is_asked_for: bool = False
    is_news: bool = True


class Call(NamedTuple):
    """A function and its arguments."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Places(NamedTuple):
    """What tasks share that are called elsewhere.

    Attributes:
        name: that of what calls them.
        number: how many it calls at one time.
    """

    name: str
    number: int


class TaskWrapper(ABC):
    """A callable that is put into a queue in the place of what its user has added."""

    __slots__ = ()

    places: Places | None = None
    """One of these is taken by a task before it is called; None if it needs none."""

    @abstractmethod
    def unwrap(self, task: Task) -> Call:
        """Return the call that a task stands for, of which this is the ``func``."""


class EnqueueCall(TaskWrapper):
    """Enqueues a task object of another framework, which is no callable.

    Calling it calls ``enqueue(*args, **kwargs)``. Its name is that of the task's own function.

    Args:
        target: the task object.
    """

    def __init__(self, target: Any) -> None:
        self.target = target
        update_wrapper(self, getattr(target, "func", type(target)), updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Enqueue it. What this returns is nothing that a queue could wait for."""
        self.target.enqueue(*args, **kwargs)

    def unwrap(self, task: Task) -> Call:
        """Return the function of the task object, and the arguments that it is enqueued with."""
        return Call(function_of(self.target), task.args, task.kwargs or {})


def has_ended(task: Task) -> bool:
    """Whether it was told how a task has ended. It may run on, if a drain has given up on it."""
    return task.record is not None and task.record.outcome is not None


def function_of(func: Any) -> Any:
    """Return the function of a task object of another framework; anything else as it is."""
    return func if callable(func) else getattr(func, "func", func)


def callable_name(func: Any) -> str:
    """Return ``module.qualname`` of a callable, seen through partials."""
    if type(func) is FunctionType:  # the common case
        return f"{func.__module__}.{func.__qualname__}" if func.__module__ else func.__qualname__
    while isinstance(func, partial):
        func = func.func
    if not hasattr(func, "__qualname__"):
        func = type(func)
    module = getattr(func, "__module__", None)  # None for methods of built-in types
    if module == type(func).__module__ and func.__class__ is not type(func):
        module = func.__class__.__module__  # a proxy that tells its own module
    return f"{module}.{func.__qualname__}" if module else str(func.__qualname__)


def made(  # noqa: PLR0917  what a task consists of
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None,
    context: Context,
    options: Options,
    is_async: bool,
) -> Task:
    """Return a task, of the type that has room for what it consists of."""
    if kwargs is None and options is DEFAULT_OPTIONS:
        return (AsyncTask if is_async else Task)(func, args, context)
    return (AsyncFullTask if is_async else FullTask)(func, args, kwargs, context, options)


def examined(func: Any) -> tuple[Any, bool]:
    """Return what is to be called for ``func``, and whether that belongs on an event loop.

    What is to be called is ``func`` itself, or an `EnqueueCall` for a task object of another
    framework, which cannot be called but has a method ``enqueue``. A callable of which nobody can
    tell that it is async (a lambda that returns an awaitable) counts as sync: a worker calls it,
    and what it returns is then awaited.

    Raises:
        TypeError: ``func`` cannot be called, or calling it would run nothing.
    """
    if type(func) is FunctionType:  # the common case, without inspect's detours
        flags = func.__code__.co_flags
        if not flags & NOT_PLAIN and not func.__dict__:  # markcoroutinefunction leaves a mark there
            return func, False
        if flags & _ASYNC:
            return func, True
    elif not callable(func) and callable(getattr(func, "enqueue", None)):
        return EnqueueCall(func), False
    return func, _is_async_object(func)


def is_awaitable(value: Any) -> bool:
    """Tell whether what a task returned is to be awaited."""
    import_whole("inspect")
    from inspect import isawaitable

    return isawaitable(value)


def forgo(awaitable: Any) -> None:
    """Nobody will await what a task has returned: close it, or Python would warn of that."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()


class Surrounded:
    """What the call of a sync task has returned, to be awaited inside of what it is entered in.

    Args:
        acall: awaits it there.
        result: what was returned.
    """

    __slots__ = ("_acall", "_result")

    def __init__(self, acall: Callable[[Any], Awaitable[Any]], result: Awaitable[Any]) -> None:
        self._acall = acall
        self._result = result

    def __await__(self) -> Generator[Any, None, Any]:
        return self._acall(self._result).__await__()

    def close(self) -> None:
        """It will not be awaited."""
        forgo(self._result)


def _is_async_object(func: Any) -> bool:
    if not callable(func):
        raise TypeError(_not_callable(func))
    import_whole("inspect")
    from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction

    inner = func
    while isinstance(inner, partial):
        inner = inner.func
    if isinstance(inner, type):  # calling a class makes an instance, whatever that can do
        return False
    candidates = (inner, getattr(inner, "__call__", None))  # noqa: B004  its value, not its presence
    if any(isgeneratorfunction(c) or isasyncgenfunction(c) for c in candidates):
        raise TypeError(
            f"add_task() got the generator function {callable_name(func)}: calling it runs none of "
            "its body. Pass a function or a coroutine function."
        )
    return any(iscoroutinefunction(c) for c in candidates)


def _not_callable(value: Any) -> str:
    if isinstance(value, CoroutineType):
        value.close()  # or Python would add its own warning that nobody awaited it
        return (
            f"add_task() got a coroutine object of {value.__qualname__}. Pass the function and its "
            f"arguments: add_task({value.__name__}, ...), not add_task({value.__name__}(...))."
        )
    called = (
        " A function that was called returns None: pass the function and its arguments, "
        "add_task(func, ...), not add_task(func(...))."
        if value is None
        else ""
    )
    return (
        f"add_task() takes a function (or another callable) and its arguments; got {value!r} "
        f"of type {type(value).__name__}, which cannot be called.{called}"
    )
