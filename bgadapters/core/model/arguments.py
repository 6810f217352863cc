"""Whether a task can be called with its arguments: told where it is added, in the view.

Only what is certain is refused. A decorator that passes on whatever it gets may do anything with
it, and of a function that is not Python's nobody knows.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType, NoneType
from typing import Any

from bgadapters.core.model import lines
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.options import Options

# The flags of a code object; see inspect's.
CO_VARARGS, CO_VARKEYWORDS = 0x04, 0x08


HARMLESS = frozenset({str, int, float, bool, NoneType, bytes, dict})
"""Types of values that belong to no session of a database, and need no further question."""

SESSIONS = "sqlalchemy.orm"
"""The module of such sessions and their objects: before it is imported there are none."""


def check_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check that ``func`` can be called with these arguments, as far as that is certain.

    Raises:
        TypeError: it cannot. The message names the function, its signature and what was given.
    """
    given = len(args)
    if type(func) is FunctionType:  # the common cases, in few steps
        code = func.__code__
        missing = code.co_argcount - given
        if not kwargs:
            if 0 <= missing <= len(func.__defaults__ or ()) and not code.co_kwonlyargcount:
                return
        elif missing == len(kwargs) and not code.co_kwonlyargcount and not code.co_posonlyargcount:
            names = code.co_varnames[given : given + missing]
            for name in kwargs:
                if name not in names:
                    break
            else:
                return
    if not _accepts(func, given, kwargs):
        raise TypeError(_refusal(func, args, kwargs))


def _binds(func: FunctionType, count: int, kwargs: dict[str, Any]) -> bool:
    """Whether a function can be called with so many positional arguments and these keywords."""
    code = func.__code__
    positional, by_place = code.co_argcount, code.co_posonlyargcount
    if count > positional and not code.co_flags & CO_VARARGS:
        return False
    names = code.co_varnames[: positional + code.co_kwonlyargcount]
    for name in kwargs:
        if name in names[by_place:]:
            if name in names[: min(count, positional)]:
                return False  # given twice
        elif not code.co_flags & CO_VARKEYWORDS:
            return False
    required = names[: positional - len(func.__defaults__ or ())]
    if any(n not in kwargs or n in names[:by_place] for n in required[count:]):
        return False
    known = func.__kwdefaults__ or {}
    return all(name in kwargs or name in known for name in names[positional:])


def _accepts(func: Any, count: int, kwargs: dict[str, Any]) -> bool:
    """Whether any callable can be called so, or it is not certain that it cannot."""
    while type(func) is partial:
        if _has_placeholders(func):
            return True
        count += len(func.args)
        kwargs = {**func.keywords, **kwargs}
        func = func.func
    if type(func) is not FunctionType:
        if isinstance(func, type):
            return True
        # What stands before the arguments is the object.
        bound = func.__func__ if type(func) is MethodType else getattr(type(func), "__call__")  # noqa: B004, B009
        if type(bound) is not FunctionType:
            return True
        func = bound
        count += 1
    return _binds(func, count, kwargs)


def _has_placeholders(func: partial[Any]) -> bool:
    """Whether positional arguments are left open, as they may be since Python 3.14."""
    return any(type(arg).__name__ == "_PlaceholderType" for arg in func.args)


def _refusal(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Say why a call cannot be made: the function, its signature, and what was given."""
    import_whole("inspect")
    from inspect import signature

    from bgadapters.core.model.task import callable_name

    def shown() -> str:
        return f"{callable_name(func)}{signature(func, follow_wrapped=False)}"

    def reason() -> str:
        try:
            signature(func, follow_wrapped=False).bind(*args, **kwargs)
        except TypeError as exc:
            return f"{exc}. "
        return ""

    return (
        f"add_task() cannot call {lines.text(shown, lines.name_of_type(func))} like that: "
        f"{lines.text(reason, '')}Given were {_given(args, kwargs)}.{_hint(kwargs)}"
    )


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    keywords = f"the keywords {', '.join(kwargs)}" if kwargs else "no keywords"
    return f"{len(args)} positional argument{'' if len(args) == 1 else 's'} and {keywords}"


def _hint(kwargs: dict[str, Any]) -> str:
    if kwargs.keys() & set(Options._fields):
        return " An option is none of the task's arguments: options(...).add_task(func, ...)."
    if kwargs.keys() & {"args", "kwargs"}:
        return " The arguments follow the function: add_task(func, 1, name=2)."
    return ""
