"""What can be sent to another process: a function by its name, arguments as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bgadapters.core.model import lines
from bgadapters.core.model.encoding import (
    ACCEPTED,
    PLAIN,
    Classes,
    classes_of,
    decode,
    encode,
)
from bgadapters.core.model.errors import NotPortableError
from bgadapters.core.model.task import Task, callable_name, function_of


def check_portable(task: Task) -> None:
    """Check that a task could be sent to another process, as an engine with a broker would.

    Raises:
        NotPortableError: its function cannot be imported by name, or its arguments do
            not survive being written and read as JSON.
    """
    packed(*task.unwrap(), "strict_portable")


def packed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], whose: str) -> dict[str, Any]:
    """Return the arguments of a call as JSON that keeps them: ``"a"`` and ``"k"``, if there are.

    Args:
        func: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        whose: what asks for that, for errors.

    Raises:
        NotPortableError: the function cannot be imported by name, or the arguments do not
            survive being written and read.
    """
    _check_function(func, whose)
    return packed_arguments(func, args, kwargs, whose) if args or kwargs else {}


def packed_arguments(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], whose: str
) -> dict[str, Any]:
    """Do as `packed` for a function of which is known that it can be imported by name.

    Raises:
        NotPortableError: the arguments do not survive being written and read.
    """
    given = (*args, *kwargs.values())
    classes = {} if _SIMPLE.issuperset(map(type, given)) else classes_of(func)

    def pack(name: str, value: Any) -> Any:
        return value if type(value) in _SIMPLE else _packed(func, name, value, classes, whose)

    found: dict[str, Any] = {}
    if args:
        found["a"] = [pack(str(place), value) for place, value in enumerate(args, 1)]
    if kwargs:
        found["k"] = {name: pack(name, value) for name, value in kwargs.items()}
    return found


_SIMPLE = frozenset(PLAIN) - {float}  # which may be infinite


def _check_function(func: Any, whose: str) -> None:
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None)
    found: Any = sys.modules.get(module or "")
    for part in (name or "<no name>").split("."):
        found = getattr(found, part, None)
    if function_of(found) is not func or module == "__main__":
        raise NotPortableError(
            f"cannot add {callable_name(func)}: {whose} accepts what can be imported "
            f"by name, functions at the top level of a module; not {func!r}"
        )


def _packed(func: Any, name: str, value: Any, classes: Classes, whose: str) -> Any:
    try:
        data = encode(value, classes)
        back = decode(_through_json(data), classes)
    except Exception as exc:  # a class of the application may refuse its own values
        raise _refused(func, name, value, str(exc), whose) from exc
    if not _is_same(value, back):
        raise _refused(func, name, value, f"it would come back as {back!r}", whose)
    return data


def _through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


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


def _refused(func: Any, name: str, value: Any, why: str, whose: str) -> NotPortableError:
    shown = lines.text(lambda: repr(value), "what has no repr")
    return NotPortableError(
        f"cannot add {callable_name(func)}: {whose} accepts arguments that JSON can keep "
        f"({ACCEPTED}); argument {name} is {shown} of type {lines.name_of_type(value)}: {why}"
    )
