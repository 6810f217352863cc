"""The one way to call code of the application: what it raises stops nothing.

Log handlers and filters, hooks, receivers, names and reprs belong to the application. They may
raise anything, ``SystemExit`` too, and none of it may end a worker, a batch, a drain or a process.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("bgadapters")

_CONTROL = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029)},
}


def call(func: Callable[..., object], *args: Any, doing: str) -> None:
    """Call ``func``; log what it raises.

    Args:
        func: code of the application.
        args: its arguments.
        doing: what it was called for, as the subject of "... failed".
    """
    try:
        func(*args)
    except BaseException as exc:
        log(logging.ERROR, "%s failed", doing, exc_info=exc)


def log(level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
    """Write to the log; where its handlers or filters raise, to standard error."""
    try:
        if logger.disabled:
            _log_above(level, message, args, exc_info)
        else:
            logger.log(level, message, *args, exc_info=exc_info)
    except BaseException as exc:
        with suppress(BaseException):
            print(message % args, file=sys.stderr)  # noqa: T201  the log itself has failed
            for each in filter(None, (exc_info, exc)):
                traceback.print_exception(each, file=sys.stderr)


def _log_above(
    level: int, message: str, args: tuple[object, ...], exc_info: BaseException | None
) -> None:
    """Write to the log of the root: ours was disabled, as nobody has asked for.

    ``logging.config`` does so by default with the loggers that were there before it was called and
    that it does not name.
    """
    root = logging.getLogger()
    if level >= logger.getEffectiveLevel() and root.isEnabledFor(level):
        caught = None
        if exc_info is not None:
            caught = (type(exc_info), exc_info, exc_info.__traceback__)
        root.handle(logger.makeRecord(logger.name, level, __file__, 0, message, args, caught))


def text(make: Callable[[], object], otherwise: str) -> str:
    """Return what ``make`` returns as a string for one line of a log, ``otherwise`` if it raises.

    Control characters are escaped, so that a name or a message cannot forge lines.
    """
    try:
        return str(make()).translate(_CONTROL)
    except BaseException:
        return otherwise


def name_of_type(value: object) -> str:
    """Return ``module.qualname`` of the type of a value, which its own attributes cannot change."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
