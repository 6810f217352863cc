"""Calls and callables in the words of a message."""

from __future__ import annotations

from functools import partial
from typing import Any

from bgadapters.core.model.task import callable_name


def shown(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A call as it would be written."""
    given = ["..." if arg is ... else _repr(arg) for arg in args]
    given += [f"{name}={_repr(value)}" for name, value in kwargs.items()]
    return f"{name}({', '.join(given)})"


def name_of(func: Any) -> str:
    """What has a name is called by it; a mock or a matcher shows more of itself than its type."""
    shows_itself = any("__repr__" in vars(kind) for kind in type(func).__mro__[:-1])
    is_named = isinstance(func, partial) or hasattr(func, "__qualname__")
    return _repr(func) if shows_itself and not is_named else callable_name(func)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:  # the message is about something else
        return f"<{type(value).__name__} object, repr() of which raised {type(exc).__name__}>"
