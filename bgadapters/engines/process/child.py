"""A process of the engine: it runs one task at a time, in its main thread."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from bgadapters import drain
from bgadapters.adapters import FrameworkHooks, run_alone
from bgadapters.engines.process.raised import packed

SPARED = {signal.SIGINT, signal.SIGTERM}
"""What a terminal and a supervisor send to all processes of a server. The server decides."""


class Child:
    """This process, as it sees itself.

    Args:
        connection: what it talks to its parent by: lines of JSON.
        lifeline: the end of a pipe whose other end only its parent has.
    """

    def __init__(self, connection: socket.socket, lifeline: int) -> None:
        self._connection = connection
        self._lifeline = lifeline
        self._lines = connection.makefile("rb")

    def serve(self, parent: int, initializer: Sequence[str] | None) -> None:
        """Run tasks until the parent hangs up.

        Args:
            parent: its id.
            initializer: what is called first, and its arguments; None for nothing.
        """
        for each in SPARED:
            signal.signal(each, _do_nothing)  # unlike SIG_IGN it is not for what a task starts
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SPARED)
        os.set_inheritable(self._lifeline, False)
        os.register_at_fork(after_in_child=self._let_go)
        end_with(self._lifeline)
        if os.getppid() != parent:  # it has ended before that
            return
        try:
            hooks = hooks_of(initializer)
        except BaseException as exc:
            self._say({"raised": packed(exc)})
            return
        self._say({"ready": True})
        with suppress(ConnectionError):  # the parent has given up on the task
            for line in self._lines:
                self._say({"begun": True})
                said = json.loads(line)
                self._say(attempted(hooks, said["payload"], said["attempt"]))

    def _say(self, what: dict[str, Any]) -> None:
        self._connection.sendall(json.dumps(what).encode() + b"\n")

    def _let_go(self) -> None:
        """In a forked child: what is held here would keep the parent from seeing this one end."""
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in (self._connection.fileno(), self._lifeline):
            os.dup2(nothing, each, inheritable=False)
        os.close(nothing)


def attempted(hooks: FrameworkHooks, payload: str, attempt: int) -> dict[str, Any]:
    """Run a task, and what it has enqueued here; return what is to be said of that."""
    try:
        try:
            run_alone(hooks, payload, attempt)
        finally:
            drain(threading.TIMEOUT_MAX)  # this process may be killed before it has more to do
    except BaseException as exc:
        return {"raised": packed(exc)}
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):  # there may be none, or a task has closed it
                stream.flush()
    return {"done": True}


def hooks_of(initializer: Sequence[str] | None) -> FrameworkHooks:
    """Call the initializer; return what is to be entered around tasks."""
    if initializer is None:
        return FrameworkHooks()
    path, *arguments = initializer
    module, _, name = path.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    made: Any = found(*arguments)
    if isinstance(made, FrameworkHooks):
        return made
    scope: Any = made if callable(made) else None
    return FrameworkHooks(scope=scope).completed(False)


def end_with(lifeline: int) -> None:
    """Have this process killed, and what it has started, when the other end of a pipe is closed.

    Where the kernel does that, it is done at once also while a task keeps the interpreter's lock.
    """
    try:
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    except (AttributeError, OSError):  # not Linux
        watch: Callable[[], None] = lambda: _wait_for_the_end(lifeline)  # noqa: E731
        threading.Thread(target=watch, name="bgadapters-lifeline", daemon=True).start()


def _wait_for_the_end(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _do_nothing(*_: object) -> None:
    return None
