"""What a forked child forgets: one hook for the process, with the resets in an order."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

MODE, APPLICATIONS, SHIMS = range(3)
"""The order: how tasks run, then whose they are, then what shims keep beside them."""

_lock = threading.RLock()
_resets: dict[tuple[int, str], Callable[[], None]] = {}  # guarded by _lock
_is_hooked = False  # guarded by _lock
_process = os.getpid()


def reset_in_child(name: str, reset: Callable[[], None], order: int = SHIMS) -> None:
    """Have ``reset`` called in each forked child, before any code of the application.

    Args:
        name: who registers; a later call of the same name replaces the earlier one.
        reset: takes no locks: a thread that is not there in the child may hold them.
        order: `MODE`, `APPLICATIONS` or `SHIMS`.
    """
    global _is_hooked
    with _lock:
        _resets[order, name] = reset
        if not _is_hooked:
            _is_hooked = True
            os.register_at_fork(after_in_child=_reset)


def notice() -> None:
    """Do in the child of a fork that Python did not see what is done in others; else nothing."""
    if _process != os.getpid():
        _reset()


def _reset() -> None:
    global _lock, _process
    _process = os.getpid()
    _lock = threading.RLock()
    for _, reset in sorted(_resets.items(), key=lambda item: item[0]):
        reset()
