"""Imports at the moment of use, of which a signal handler finds nothing or the whole.

A handler comes in the middle of whatever the main thread does, and an import is long. It would find
half a module there, and could not wait for the rest: that is made by the thread it has interrupted.
So signals are blocked in that thread. But another one may be given a signal, and its handler is
still called in the main thread, between two steps of Python. So a third thread makes the module:
the main thread waits for it, and so can the handler. The handlers themselves are left alone: some
servers have set theirs where Python does not know of them.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
        BaseException: what a handler has raised that has waited.
    """
    module = _imported.get(name)
    if module is None:
        module = _imported[name] = _whole(name) or _import(name)
    return module


def _whole(name: str) -> ModuleType | None:
    """Return a module that was imported. To import it again would be found by `_imports`."""
    module = sys.modules.get(name)
    return None if getattr(module and module.__spec__, "_initializing", False) else module


def _import(name: str) -> ModuleType:
    import threading

    if threading.current_thread() is not threading.main_thread():  # where no handler is called
        return import_module(name)
    with _signals_wait():
        find = _import_elsewhere if _can_wait_for_another_thread() else import_module
        return find(name)


@contextmanager
def _signals_wait() -> Iterator[None]:
    import signal

    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    of_this_thread = "SIGSEGV", "SIGFPE", "SIGILL", "SIGBUS", "SIGABRT", "SIGTRAP"
    them = signal.valid_signals() - {getattr(signal, each) for each in of_this_thread}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, them)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # calls the handlers of what came


def _can_wait_for_another_thread() -> bool:
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
