"""Imports at the moment of use, of which a signal handler finds nothing or the whole.

A handler comes in the middle of whatever the main thread does, and an import is long. It would find
half a module there, and could not wait for the rest: that is made by the thread it has interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any

_imported: dict[str, ModuleType] = {}


def import_whole(name: str) -> ModuleType:
    """Import a module. Signal handlers wait meanwhile.

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
        with _handlers_wait():
            module = _imported[name] = import_module(name)
    return module


@contextmanager
def _handlers_wait() -> Iterator[None]:
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():  # where no handler is called
        yield
        return
    waits = True
    came: list[tuple[Callable[..., Any], int, FrameType | None]] = []
    handlers: dict[int, Callable[..., Any]] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if waits:
            came.append((handlers[number], number, frame))
        else:  # one that was called before this has been put back
            handlers[number](number, frame)

    for each in map(int, signal.valid_signals()):
        handler = signal.getsignal(each)
        if callable(handler):
            handlers[each] = handler
    with suppress(ValueError):  # in another interpreter than the main one
        for each in handlers:
            signal.signal(each, handle)
    try:
        yield
    finally:
        waits = False
        with suppress(ValueError):
            for each, handler in handlers.items():
                if signal.getsignal(each) is handle:
                    signal.signal(each, handler)
        with ExitStack() as each_is_called:  # though one before it raises
            for handler, number, frame in reversed(came):
                each_is_called.callback(handler, number, frame)
