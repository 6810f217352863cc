"""A warning where a task is given what its request will have closed: a session of SQLAlchemy.

A task that gets the session of its request, or an object of that session, loses what it writes
without a word: nobody commits that session any more. SQLAlchemy is asked by its published
inspection, and never imported here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from functools import partial
from types import FrameType, FunctionType
from typing import Any, Literal
from weakref import WeakKeyDictionary

from bgadapters.core import host
from bgadapters.core.model import lines
from bgadapters.core.model.arguments import HARMLESS, SESSIONS
from bgadapters.core.model.errors import RequestScopedWarning
from bgadapters.core.model.task import callable_name

_SEQUENCES = (list, tuple, set, frozenset)
_Kind = Literal["session", "mapped", "other"]

_kinds: WeakKeyDictionary[type, _Kind] = WeakKeyDictionary()  # of the classes that were seen


def warn_of_sessions(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Warn, at the line that adds a task, if it is given a session or an object of one."""
    if not HARMLESS.issuperset(map(type, args)):
        _warn_of(func, args)
    if kwargs and not HARMLESS.issuperset(map(type, kwargs.values())):
        _warn_of(func, kwargs.values())
    if type(func) is not FunctionType:
        if isinstance(func, partial):
            warn_of_sessions(func.func, func.args, func.keywords)
        else:
            _warn_of(func, (getattr(func, "__self__", None),))


def _warn_of(func: Any, given: Iterable[Any]) -> None:
    for value in given:
        what = _what_of_a_session(value)
        if what is not None:
            name = lines.text(lambda: callable_name(func), lines.name_of_type(func))
            warnings.warn(
                f"the task {name} is given {what}. The request closes the session before the task "
                "runs: what the task writes with it is lost, and what is not loaded cannot be "
                "read. Pass values, the primary key for one, and open a session in the task.",
                RequestScopedWarning,
                stacklevel=_stacklevel(),
            )


def _what_of_a_session(value: Any) -> str | None:
    """Say what a value is, if it belongs to a session; of several values look at one."""
    if isinstance(value, _SEQUENCES):
        value = next(iter(value), None)
    try:
        kind = _kind_of(type(value))
        if kind == "session":
            return f"the session {type(value).__name__}"
        if kind == "mapped" and host.imported(SESSIONS).object_session(value) is not None:
            return f"an object of {type(value).__name__} that belongs to a session"
    except Exception:  # code of the application, whose mappers may be broken
        return None
    return None


def _kind_of(cls: type) -> _Kind:
    if host.imported(SESSIONS) is None:  # or not to its end yet
        return "other"
    kind = _kinds.get(cls)
    if kind is None:
        kind = _kinds[cls] = _classify(cls)
    return kind


def _classify(cls: type) -> _Kind:
    orm, ext = host.imported(SESSIONS), host.imported("sqlalchemy.ext.asyncio")
    sessions = (orm.Session,) if ext is None else (orm.Session, ext.AsyncSession)
    if issubclass(cls, sessions):
        return "session"
    inspected = host.imported("sqlalchemy").inspect(cls, raiseerr=False)
    return "mapped" if isinstance(inspected, orm.Mapper) else "other"


def _stacklevel() -> int:
    """Which frame added the task, counted as `warnings.warn` does in the caller of this."""
    level = 1
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  of sys
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith("bgadapters."):
        frame = frame.f_back
        level += 1
    return level
