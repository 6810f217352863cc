"""Imports at the moment of use, of which a signal handler finds nothing or the whole.

A handler comes in the middle of whatever the main thread does, and an import is long. It would find
half a module there, and could not wait for the rest: that is made by the thread it has interrupted.
So another thread makes it, for which the main thread waits, and a handler can wait as well. The
handlers are left alone: some servers have set theirs where Python does not know of them.
"""

from __future__ import annotations

import _thread
import sys
from contextvars import Context
from importlib import import_module
from types import FrameType, ModuleType

_imported: dict[str, ModuleType] = {}


def import_whole(name: str) -> ModuleType:
    """Import a module. What a signal handler imports meanwhile it finds whole.

    Args:
        name: its full name.

    Returns:
        The module.

    Raises:
        ImportError, OSError: it cannot be imported.
        BaseException: what a handler has raised. The import goes on.
    """
    module = _imported.get(name)
    if module is None:
        waits = not _is_whole(name) and _may_be_interrupted()
        module = _imported[name] = _import_elsewhere(name) if waits else import_module(name)
    return module


def _is_whole(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


def _may_be_interrupted() -> bool:
    """Whether this thread may be interrupted by a handler, and can wait for another one."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        return False
    if _thread.start_new_thread.__module__ != _thread.__name__:  # it is gevent's: all are greenlets
        return False
    # What this thread is importing itself, the other one would wait for without end.
    return not _imports(sys._getframe())  # noqa: SLF001  CPython's own name for it


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _import_elsewhere(name: str) -> ModuleType:
    import threading

    found: list[ModuleType] = []
    failed: list[BaseException] = []

    def find() -> None:
        try:
            found.append(import_module(name))
        except BaseException as exception:  # raised where it was asked for
            failed.append(exception)

    thread = threading.Thread(target=find, name="bgadapters-import", daemon=True)
    try:
        Context().run(thread.start)  # it is of no request, whatever agents may note of one
    except RuntimeError:  # there can be no more threads
        return import_module(name)
    thread.join()
    if failed:
        raise failed.pop()
    return found[0]
