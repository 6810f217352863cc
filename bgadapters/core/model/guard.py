"""The one way to call code of the application: what it raises stops nothing.

Log handlers and filters, hooks, receivers, names and reprs belong to the application. They may
raise anything, ``SystemExit`` too, and none of it may end a worker, a batch, a drain or a process.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from bgadapters.core.model.lines import CONTROL

logger = logging.getLogger("bgadapters")

_IN_A_TRACEBACK = {code: seen for code, seen in CONTROL.items() if chr(code) not in "\t\n"}


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


def log(
    level: int,
    message: str,
    *args: object,
    exc_info: BaseException | None = None,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Write to the log; where its handlers or filters raise, to standard error.

    Where our logger was disabled, which ``logging.config`` does by default with the loggers that
    were there before it and that it does not name, the root's handlers write. The traceback is
    left to the formatters of the application, unless the message of an exception would forge
    lines there.
    """
    try:
        forges_lines = exc_info is not None and _would_forge_lines(exc_info)
        target = logging.getLogger() if logger.disabled else logger
        if target is logger and not forges_lines:
            logger.log(level, message, *args, exc_info=exc_info, extra=extra)
        elif level >= logger.getEffectiveLevel() and target.isEnabledFor(level):
            target.handle(_record(level, message, args, exc_info, forges_lines, extra))
    except BaseException as exc:
        with suppress(BaseException):
            print(message % args, file=sys.stderr)  # noqa: T201  the log itself has failed
            for each in filter(None, (exc_info, exc)):
                sys.stderr.writelines(_traceback(each))


def _record(  # noqa: PLR0917  called in one place
    level: int,
    message: str,
    args: tuple[object, ...],
    exc_info: BaseException | None,
    forges_lines: bool,
    extra: Mapping[str, object] | None,
) -> logging.LogRecord:
    file, line, function, _ = logger.findCaller()
    caught = None if exc_info is None else (type(exc_info), exc_info, exc_info.__traceback__)
    record = logger.makeRecord(
        logger.name, level, file, line, message, args, caught, function, extra
    )
    if exc_info is not None and forges_lines:
        record.exc_text = "".join(_traceback(exc_info)).rstrip("\n")  # formatters take this one
    return record


def exceptions_of(exception: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those behind it: causes, contexts, members of groups, each once."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [exception]
    while left:
        each = left.pop()
        if each is None or any(each is one for one in seen):
            continue
        seen.append(each)
        yield each
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions


def _would_forge_lines(exception: BaseException) -> bool:
    """Whether the message of an exception, or of one behind it, has control characters."""
    for each in exceptions_of(exception):
        with suppress(BaseException):
            said = "".join([str(each), *getattr(each, "__notes__", ())])
            if said.translate(CONTROL) != said:
                return True
    return False


def _traceback(exception: BaseException) -> Iterator[str]:
    """Format a traceback; what a message says after its first line is indented."""
    is_message = False  # whether the last line that is not indented was one of a message
    for part in traceback.TracebackException.from_exception(exception).format():
        begins_line = not part.startswith((" ", "\n", "Traceback (most recent call last):"))
        text = part.rstrip("\n").translate(_IN_A_TRACEBACK)
        if begins_line:
            text = text.replace("\n", "\n    ")
            if is_message:  # a note, of which each line is a part
                text = f"    {text}"
        is_message = begins_line or (is_message and part.startswith(" "))
        yield f"{text}\n"
