"""Options that a function has by itself: ``@task_options(...)``.

The decorator leaves them in the function's own ``__dict__``, so that ``add_task`` need not look
for them where that is empty, as it is of nearly every function.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar, Unpack

from bgadapters.core.model import lines
from bgadapters.core.model.options import OptionNames, TaskOptions
from bgadapters.core.model.task import EnqueueCall, function_of

F = TypeVar("F")

_MARK = "__bgadapters_options__"
_OF_THE_RESPONSE = {"always", "name", "on_commit", "run_on"}


def task_options(
    base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
) -> Callable[[F], F]:
    """Give a function options of its own, which count wherever it is added as a task.

    The function stays what it is. ``options(...)`` at the call goes before them, and they go
    before the setting ``defaults``. Of two such decorators the outer one goes before the inner.

    It may stand above or below ``@staticmethod``, ``@classmethod`` and the decorators ``task`` of
    other frameworks. A decorator above it has to be made with `functools.wraps`.

    Args:
        base: a set of options. Default: none.
        options: see `Options`; they go before those of ``base``.

    Raises:
        TypeError: as `TaskOptions`; or what is decorated has no place for options.
    """
    given = TaskOptions.parsed(base, options, "task_options")

    def mark(func: F) -> F:
        target: Any = func
        if isinstance(target, (staticmethod, classmethod)):
            target = target.__func__
        target = function_of(target)
        earlier = marked_options(target)
        try:
            setattr(target, _MARK, given if earlier is None else given.based_on(earlier))
        except (AttributeError, TypeError) as exc:
            raise TypeError(
                f"@task_options() accepts a function, not {lines.text(lambda: repr(func), '?')} of "
                f"type {lines.name_of_type(func)}, which keeps no attributes. Decorate a function "
                "that calls it, or add it with options(...)."
            ) from exc
        return func

    return mark


def marked_options(func: Any) -> TaskOptions | None:
    """Return the options that a callable has by `task_options`; None if it has none.

    Of a task object of another framework, which ``add_task`` enqueues, those count that are about
    its response. When its function runs is that framework's to decide.
    """
    if type(func) is FunctionType:  # the common case
        return func.__dict__.get(_MARK)
    if isinstance(func, EnqueueCall):
        found = marked_options(function_of(func.target))
        return None if found is None else found.only(_OF_THE_RESPONSE)
    while isinstance(func, partial):
        found = _mark_of(func)
        if found is not None:
            return found
        func = func.func
    found = _mark_of(func)
    if found is None and type(func) not in _FUNCTIONS:
        found = _mark_of(getattr(type(func), "__call__", None))  # noqa: B004  its value
    return found


_FUNCTIONS = {FunctionType, MethodType, type(len), type}


def _mark_of(func: Any) -> TaskOptions | None:
    if type(func) is MethodType:
        func = func.__func__
    if type(func) is FunctionType:
        return func.__dict__.get(_MARK)
    try:
        found = getattr(func, _MARK, None)
    except Exception:  # a proxy of which nothing can be known yet
        return None
    return found if isinstance(found, TaskOptions) else None  # a mock has every attribute
