"""Exceptions that signal handlers raise into whatever the main thread is doing."""

from __future__ import annotations

import signal
import threading
from types import CodeType, TracebackType
from typing import Any

from bgadapters.core.host.modules import imported
from bgadapters.core.host.stack import callers


def raised_by_signal(exception: BaseException) -> bool:
    """Whether a signal handler has raised this into what was running in the main thread.

    Then it is meant for the server. Python tells nobody, but a handler that is written in Python
    has a frame in the traceback. Python's own handler of SIGINT has none, and what it raises comes
    from no ``raise``.
    """
    is_kind = isinstance(exception, (KeyboardInterrupt, SystemExit))
    if not is_kind or threading.current_thread() is not threading.main_thread():
        return False
    handlers = {signal.getsignal(each) for each in signal.valid_signals()}
    codes = {_code(handler) for handler in handlers if callable(handler)}
    last = traceback = exception.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        last, traceback = traceback, traceback.tb_next
    return (
        isinstance(exception, KeyboardInterrupt)
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        and last is not None
        and not _is_raise(last)
    )


def _code(handler: Any) -> CodeType | None:
    """Return the code of a function, a method, a partial of one, or an object's ``__call__``."""
    while hasattr(handler, "func"):
        handler = handler.func
    if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
        handler = type(handler).__call__
    return getattr(handler, "__code__", None)


def _is_raise(traceback: TracebackType) -> bool:
    from opcode import opmap

    instruction = traceback.tb_frame.f_code.co_code[traceback.tb_lasti]
    return instruction in {opmap["RAISE_VARARGS"], opmap["RERAISE"]}


def forgets_interruptions() -> bool:
    """Whether this is called below a server that catches whatever is raised in a request.

    wsgiref does, and so goes on at Ctrl-C.
    """
    if imported("wsgiref.handlers") is None:
        return False
    return any(frame.f_globals.get("__name__") == "wsgiref.handlers" for frame in callers())
