"""What can be sent to another process: a function by its name, arguments as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from bgadapters.core.model.errors import NotPortableError
from bgadapters.core.model.task import Task, callable_name, function_of


def check_portable(task: Task) -> None:
    """Check that a task could be sent to another process, as an engine with a broker would.

    Raises:
        NotPortableError: its function cannot be imported by name, or its arguments do
            not survive being written and read as JSON.
    """
    func, args, kwargs = task.unwrap()
    _check_function(func)
    given = [(str(place), value) for place, value in enumerate(args, 1)]
    for name, value in [*given, *kwargs.items()]:
        _check_argument(func, name, value)


def _check_function(func: Any) -> None:
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "<no name>").split("."):
        found = getattr(found, part, None)
    if function_of(found) is not func or module == "__main__":
        raise NotPortableError(
            f"cannot add {callable_name(func)}: strict_portable accepts what can be imported "
            f"by name, functions at the top level of a module; not {func!r}"
        )


def _check_argument(func: Any, name: str, value: Any) -> None:
    try:
        json_copy(value)
    except ValueError as exc:
        raise _refused(func, name, value, str(exc)) from exc


def json_copy(value: Any) -> Any:
    """Return a value after it was written and read as JSON.

    Raises:
        ValueError: it does not come back as what it was; the message says why.
    """
    try:
        back = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc
    if not _is_same(value, back):
        raise ValueError(f"it would come back as {back!r}")
    return back


def _is_same(value: Any, back: Any) -> bool:
    """Compare deeply, types included: 1 is not True, and a tuple no list."""
    if type(value) is not type(back):
        return False
    if isinstance(value, dict):
        same_keys = value.keys() == back.keys()
        return same_keys and all(_is_same(value[key], back[key]) for key in value)
    if isinstance(value, list):
        return all(_is_same(*pair) for pair in zip(value, back, strict=True))
    return bool(value == back)


def _refused(func: Any, name: str, value: Any, why: str) -> NotPortableError:
    return NotPortableError(
        f"cannot add {callable_name(func)}: strict_portable accepts arguments that survive "
        f"JSON (None, bool, int, float, str, list, dict with str keys); argument {name} is "
        f"{value!r} of type {type(value).__name__}: {why}"
    )
