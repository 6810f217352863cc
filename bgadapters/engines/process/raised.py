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


def packed(exception: BaseException) -> dict[str, Any]:
    """Return an exception as JSON."""
    kinds = [kind for kind in type(exception).__mro__ if issubclass(kind, BaseException)]
    return {
        "kinds": [[kind.__module__, kind.__qualname__] for kind in kinds],
        "text": _text(exception),
        "traceback": "".join(format_exception(exception)).rstrip(),
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
    (module, name), *_ = said["kinds"]
    exception = _unpickled(said["pickled"])
    if exception is None:
        kind = next(filter(None, (_class(*each) for each in said["kinds"])))
        exception = kind.__new__(kind)
        is_it = [kind.__module__, kind.__qualname__] == [module, name]
        exception.args = (said["text"] if is_it else f"{module}.{name}: {said['text']}",)
    with suppress(Exception):  # an exception may refuse to be changed
        shown = indent(said["traceback"], "    ")  # so that no line of it passes for one of the log
        exception.add_note(f"Raised in process {said['process']}:\n{shown}")
    return exception


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:
        return "what has no text"


def _pickled(exception: BaseException) -> str | None:
    """Return it as a pickle, as text; None if it would not come back as what it is."""
    try:
        data = pickle.dumps(exception)
        is_good = len(data) <= _MOST and type(pickle.loads(data)) is type(exception)  # noqa: S301
    except Exception:
        return None
    return base64.b64encode(data).decode() if is_good else None


def _unpickled(data: str | None) -> BaseException | None:
    if data is None:
        return None
    try:
        found: Any = _Unpickler(io.BytesIO(base64.b64decode(data))).load()
    except Exception:
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
