"""What a task has raised, on its way from its process to that which waits for it."""

from __future__ import annotations

import base64
import io
import os
import pickle
import sys
from contextlib import suppress
from textwrap import indent
from traceback import format_exception
from typing import Any

_MOST = 1_000_000  # bytes of an exception; one that has more in it is told of as text
_LONGEST = 4_000_000  # characters of a text, which is read on an event loop that may be a server's


def packed(exception: BaseException) -> dict[str, Any]:
    """Return an exception as JSON."""
    kinds = [kind for kind in type(exception).__mro__ if issubclass(kind, BaseException)]
    return {
        "kinds": [[kind.__module__, kind.__qualname__] for kind in kinds],
        "text": _text(exception),
        "traceback": _cut("".join(format_exception(exception)).rstrip()),
        "process": os.getpid(),
        "pickled": _pickled(exception),
    }


def unpacked(said: dict[str, Any]) -> BaseException:
    """Return the exception that `packed` was given, or one that stands for it.

    Its class is not imported for it: that would take its time on an event loop. Code that waits for
    a class has imported it. Else it is one of the next of its bases that is imported here.

    It is read from a process of our own, which runs the same code as this one for the same user:
    what it could have us do by a pickle it can do by itself.
    """
    exception = _unpickled(said["pickled"])
    if exception is None:
        exception = next(filter(None, (_stand_in(each, said) for each in said["kinds"])))
    with suppress(BaseException):  # an exception may refuse to be changed
        shown = indent(said["traceback"], "    ")  # so that no line of it passes for one of the log
        exception.add_note(f"Raised in process {said['process']}:\n{shown}")
    return exception


def _stand_in(kind: list[str], said: dict[str, Any]) -> BaseException | None:
    """Return an exception of a class with the text of what was raised, if one can be made."""
    found, (itself, *_) = _class(*kind), said["kinds"]
    if found is None:
        return None
    try:
        made: Any = found.__new__(found)
        made.args = (said["text"] if kind == itself else f"{'.'.join(itself)}: {said['text']}",)
    except BaseException:  # it accepts only what it was given there, as an ExceptionGroup does
        return None
    return made if isinstance(made, BaseException) else None


def _text(exception: BaseException) -> str:
    try:
        return _cut(str(exception))
    except BaseException:  # whatever it raises, it is not what the task has raised
        return "what has no text"


def _cut(text: str) -> str:
    """Leave out the middle of a text that is too long."""
    left_out = len(text) - _LONGEST
    if left_out <= 0:
        return text
    half = _LONGEST // 2
    return f"{text[:half]} [... {left_out} characters ...] {text[-half:]}"


def _pickled(exception: BaseException) -> str | None:
    """Return it as a pickle, as text; None if it would not come back as what it is."""
    try:
        data = pickle.dumps(exception)
        is_good = len(data) <= _MOST and type(pickle.loads(data)) is type(exception)  # noqa: S301
    except BaseException:
        return None
    return base64.b64encode(data).decode() if is_good else None


def _unpickled(data: str | None) -> BaseException | None:
    if data is None:
        return None
    try:
        found: Any = _Unpickler(io.BytesIO(base64.b64decode(data))).load()
    except BaseException:
        return None
    return found if isinstance(found, BaseException) else None


class _Unpickler(pickle.Unpickler):
    """Knows what is imported here."""

    def find_class(self, module: str, name: str) -> Any:
        if module not in sys.modules:
            raise pickle.UnpicklingError(f"{module} is not imported here")
        return super().find_class(module, name)


def _class(module: str, name: str) -> type[BaseException] | None:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None
