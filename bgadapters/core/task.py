"""One call, decided now and made later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import Context
from functools import partial, update_wrapper
from types import CoroutineType, FunctionType
from typing import Any, NamedTuple, TypedDict

# The flags of a code object, by the names that inspect has for them. It is imported only where
# it is needed, for it would be a third of what importing this package costs.
CO_GENERATOR, CO_COROUTINE, CO_ITERABLE_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200
_ASYNC = CO_COROUTINE | CO_ITERABLE_COROUTINE
_SPECIAL = _ASYNC | CO_GENERATOR | CO_ASYNC_GENERATOR


class Options(NamedTuple):
    """How a task is treated. ``options(...)`` accepts these names and no others."""

    always: bool = False
    """Run even when the response failed and the other tasks are discarded."""
    name: str | None = None
    """What logs and events call the task. Default: the function's qualified name."""
    on_commit: bool = True
    """Run only if the transaction commits in which it was added, where the framework has those."""


class OptionNames(TypedDict, total=False):
    """The keyword arguments of ``options(...)``, for type checkers."""

    always: bool
    name: str | None
    on_commit: bool


_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "always": ((bool,), "True or False"),
    "name": ((str, type(None)), "a string or None"),
    "on_commit": ((bool,), "True or False"),
}
DEFAULT_OPTIONS = Options()


def checked_options(base: Options, given: OptionNames) -> Options:
    """Return ``base`` with the options in ``given``.

    Raises:
        TypeError: a name that is not accepted, or a value of the wrong type.
    """
    for name, value in given.items():
        if name not in _ACCEPTED:
            accepted = ", ".join(f"{n}= ({what})" for n, (_, what) in _ACCEPTED.items())
            raise TypeError(f"options() got an unknown option {name!r}; it accepts {accepted}")
        types, what = _ACCEPTED[name]
        if not isinstance(value, types):
            raise TypeError(f"options({name}=...) accepts {what}, not {value!r}")
    return base._replace(**given)


class Task:
    """A callable with its arguments, its options and the context it was added in."""

    __slots__ = ("args", "context", "func", "is_async", "kwargs", "options")

    def __init__(  # noqa: PLR0917  called once, for every task
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context,
        options: Options,
        is_async: bool,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs  # None where there are none: an empty dict costs 64 bytes
        self.context = context
        self.options = options
        self.is_async = is_async

    @property
    def name(self) -> str:
        """What logs and events call this task."""
        return self.options.name or callable_name(self.func)

    @property
    def meant(self) -> Meant:
        """The call that whoever added it had in mind."""
        if isinstance(self.func, StandIn):
            return self.func.meant_by(self)
        return Meant(self.func, self.args, self.kwargs or {})

    def call(self) -> Any:
        """Make the call. Of an async task this returns the awaitable."""
        if self.kwargs is None:
            return self.func(*self.args)
        return self.func(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class Meant(NamedTuple):
    """A function and its arguments."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class StandIn(ABC):
    """A callable that is in a queue in the place of what was meant."""

    __slots__ = ()

    @abstractmethod
    def meant_by(self, task: Task) -> Meant:
        """The call that a task stands for, of which this is the ``func``."""


class HandOver(StandIn):
    """Stands for a task object of a framework for tasks, which is no callable but can be enqueued.

    Calling it calls ``enqueue(*args, **kwargs)``. Its name is that of the task's own function.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        update_wrapper(self, getattr(target, "func", type(target)), updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Enqueue it. What this returns is nothing that a queue could wait for."""
        self._target.enqueue(*args, **kwargs)

    def meant_by(self, task: Task) -> Meant:
        """The function of the task object, and the arguments that it is enqueued with."""
        return Meant(function_of(self._target), task.args, task.kwargs or {})


def function_of(func: Any) -> Any:
    """Return the function of a task object of another framework; anything else as it is."""
    return func if callable(func) else getattr(func, "func", func)


def as_callable(func: Any) -> Any:
    """Return ``func``, or what hands it over if it is a task object of another framework.

    Such an object cannot be called but has a method ``enqueue``.
    """
    if type(func) is FunctionType or callable(func):
        return func
    return HandOver(func) if callable(getattr(func, "enqueue", None)) else func


def callable_name(func: Any) -> str:
    """Return ``module.qualname`` of a callable, seen through partials."""
    while isinstance(func, partial):
        func = func.func
    if not hasattr(func, "__qualname__"):
        func = type(func)
    module = getattr(func, "__module__", None)  # None for methods of built-in types
    return f"{module}.{func.__qualname__}" if module else str(func.__qualname__)


def is_async_callable(func: Any) -> bool:
    """Tell whether calling ``func`` gives a coroutine, so that it belongs on a loop.

    A callable of which this cannot be told (a lambda that returns an awaitable)
    counts as sync: it is called in a worker and what it returns is then awaited.

    Raises:
        TypeError: ``func`` cannot be called, or calling it would run nothing.
    """
    if type(func) is FunctionType:  # the common case, without inspect's detours
        flags = func.__code__.co_flags
        if not flags & _SPECIAL and not func.__dict__:  # markcoroutinefunction leaves a mark there
            return False
        if flags & _ASYNC:
            return True
    return _is_async_object(func)


def is_awaitable(value: Any) -> bool:
    """Tell whether what a task returned is to be awaited."""
    from inspect import isawaitable

    return isawaitable(value)


def _is_async_object(func: Any) -> bool:
    if not callable(func):
        raise TypeError(_not_callable(func))
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


__all__ = [
    "DEFAULT_OPTIONS",
    "HandOver",
    "Meant",
    "OptionNames",
    "Options",
    "StandIn",
    "Task",
    "as_callable",
    "callable_name",
    "checked_options",
    "function_of",
    "is_async_callable",
    "is_awaitable",
]
