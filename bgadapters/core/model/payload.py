"""What a row, or a message to an engine, says of a call, and which functions it may name.

Both are data that others may have written. So nothing is imported or called because they name it:
a function has to have `task_options`, or be of a module that the application has listed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from types import FunctionType
from typing import Any, NamedTuple

from bgadapters.core.model.encoding import classes_of, decode, reference
from bgadapters.core.model.errors import NotPortableError
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.portable import packed
from bgadapters.core.model.task import Call, TaskWrapper, callable_name, function_of

_JSON = (str, int, float, bool, type(None))
OF_THE_RESPONSE = {"always", "run_on", "on_commit", "durable", "session", "send"}
"""Options that are of the response: what runs elsewhere knows nothing of them."""
_ELSEWHERE = {*OF_THE_RESPONSE, "delay", "run_after", "priority", "key"} - {"on_commit"}
"""Those, and what the row has by itself."""

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


class Whose(NamedTuple):
    """What asks for a call as data, for errors.

    Attributes:
        option: the option that does.
        without: what to write to do without.
        what: what the call becomes.
    """

    option: str
    without: str
    what: str


STORED = Whose("durable=True", "durable=False", "a store")


def sent_to(engine: str) -> Whose:
    """Return what asks for a call as a message."""
    return Whose(f"engine={engine!r}", "engine='local'", "a message")


class StoredCall(NamedTuple):
    """What a payload says.

    Attributes:
        func: the function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        options: those that were given at the call.
        captured: what the task middlewares have captured; None if nothing.
        carried: what the framework carries of a request; None if nothing.
        method: that of the request.
        path: that of the request.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Mapping[str, Any]
    captured: Any
    carried: Any
    method: str | None
    path: str | None


class Said(NamedTuple):
    """What a payload says to somebody who only looks at it.

    Attributes:
        method: that of the request.
        path: that of the request.
        arguments: those of the call, as JSON keeps them; None if they cannot be read.
        function: the name of its function; None if it cannot be read.
    """

    method: str | None
    path: str | None
    arguments: dict[str, Any] | None
    function: str | None = None


def check_may_be_called(func: Any, modules: Sequence[str], whose: Whose) -> None:
    """Check that a function may be called out of a row or a message.

    Raises:
        NotPortableError: it may not.
        TypeError: it is a task object of another framework.
    """
    if type(func) is not FunctionType and isinstance(func, TaskWrapper):
        raise TypeError(
            f"cannot add {callable_name(func)} with {whose.option}, as it is no function: a task "
            f"object is kept by its own framework, once it is enqueued. Add it with {whose.without}"
        )
    if not may_be_called(func, modules):
        module = getattr(func, "__module__", None)
        raise NotPortableError(
            f"cannot add {callable_name(func)} with {whose.option}: {whose.what} is only data, so "
            "what may be called out of it has to be told. Decorate it with @task_options(), list "
            f"its module in the setting 'task_modules': {module!r}, or add it with {whose.without}"
        )


def may_be_called(func: Any, modules: Sequence[str]) -> bool:
    """Whether a function was told to be one that may be called out of a row."""
    return marked_options(func) is not None or _is_listed(
        getattr(func, "__module__", None) or "", modules
    )


def _is_listed(module: str, modules: Sequence[str]) -> bool:
    return module in modules or any(
        module.startswith(each) or module == each[:-1] for each in modules if each.endswith(".")
    )


def check_packable(
    call: Call, modules: Sequence[str], given: Mapping[str, Any], whose: Whose = STORED
) -> None:
    """Check that a call could be kept or sent, where it is not to be.

    Args:
        call: the call.
        modules: the setting ``task_modules``.
        given: the options that were given at the call.
        whose: what asks for that. Default: a store.

    Raises:
        NotPortableError: it could not.
        TypeError: it is of a task object of another framework, or one of the options is no JSON.
    """
    check_may_be_called(call.func, modules, whose)
    dumped(call, whose, options=options_to_pack(given, whose))


def options_to_pack(given: Mapping[str, Any], whose: Whose = STORED) -> dict[str, Any]:
    """Return those of the options that were given at a call which go into its row or message.

    Raises:
        TypeError: one of them is no JSON.
    """
    if given.keys() <= _ELSEWHERE:  # as nearly always
        return {}
    kept = {name: value for name, value in given.items() if name not in _ELSEWHERE}
    for name, value in kept.items():
        if not isinstance(value, _JSON):
            raise TypeError(
                f"options({whose.option}, {name}={value!r}): {whose.what} has numbers and text. "
                f"Write it at the function: @task_options({name}=...)"
            )
    return kept


def dumped(
    call: tuple[Any, tuple[Any, ...], dict[str, Any]],
    whose: Whose = STORED,
    *,
    method: Any = None,
    path: Any = None,
    **beside: Any,
) -> str:
    """Return the payload of a call.

    Args:
        call: the function and its arguments.
        whose: what asks for that. Default: a store.
        method: that of the request. Default: none.
        path: that of the request. Default: none.
        beside: what else it is to say; see `StoredCall`. What is None or empty is left out.

    Raises:
        NotPortableError: it is none that could be kept.
    """
    func, args, kwargs = call
    said = packed(func, args, kwargs, whose.option)  # which says if it has no name
    for name, value in beside.items():
        if value:
            said[name] = value
    return joined(beginning_of(reference(func)), said, method, path)


def joined(beginning: str, said: Mapping[str, Any], method: Any, path: Any) -> str:
    """Return the payload of a call.

    What is the same in many of them is encoded once.

    Args:
        beginning: what `beginning_of` has returned for its function.
        said: what it says besides, as JSON.
        method: that of the request; None for none.
        path: that of the request; None for none.
    """
    end = _request_said(method, path)
    return f"{beginning},{_ENCODER.encode(said)[1:-1]}{end}" if said else beginning + end


@lru_cache(maxsize=256)
def beginning_of(name: str) -> str:
    """Return how the payload of a call begins, by the ``module:qualname`` of its function."""
    return _ENCODER.encode({"f": name})[:-1]


@lru_cache(maxsize=256)
def _request_said(method: str | None, path: str | None) -> str:
    """Return how a payload ends."""
    said = {name: each for name, each in (("method", method), ("path", path)) if each}
    return f",{_ENCODER.encode(said)[1:]}" if said else "}"


def loaded(payload: str, modules: Sequence[str]) -> StoredCall:
    """Return what a payload says.

    Raises:
        LookupError: its function is not there, or may not be called.
        ValueError: it cannot be read; it may be of another version.
    """
    said = json.loads(payload)
    func = _function(said["f"], modules)
    classes = classes_of(func)
    return StoredCall(
        func,
        tuple(decode(each, classes) for each in said.get("a", ())),
        {name: decode(value, classes) for name, value in said.get("k", {}).items()},
        said.get("options", {}),
        said.get("captured"),
        said.get("carried"),
        said.get("method"),
        said.get("path"),
    )


def said_in(payload: str) -> Said:
    """Return what a payload says, without importing or making anything of it."""
    try:
        said = json.loads(payload)
        arguments = {"args": said.get("a", []), "kwargs": said.get("k", {})}
        return Said(said.get("method"), said.get("path"), arguments, str(said.get("f")))
    except (ValueError, AttributeError):  # somebody else wrote it
        return Said(None, None, None)


def _function(name: str, modules: Sequence[str]) -> Any:
    module_name, _, qualname = name.partition(":")
    module: Any = sys.modules.get(module_name)
    if module is None:
        if not _is_listed(module_name, modules):
            raise LookupError(
                f"its module {module_name} is not imported here, and the setting 'task_modules' "
                "does not list it"
            )
        module = import_module(module_name)
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
        if found is None:
            raise LookupError(f"there is no {name} any more")
    found = function_of(found)
    if not callable(found) or not may_be_called(found, modules):
        raise LookupError(
            f"{name} may not be called here: decorate it with @task_options(), or list "
            "its module in the setting 'task_modules'"
        )
    return found
