"""What a check adds to a request of a process that has opted in: see ``bgadapters.check``.

A process opts in by its environment: ``BGADAPTERS_CHECK_TOKEN``, read when a runtime is
made. A request opts in by its header ``Bgadapters-Check: <token>:<port>``. Whoever opens
a queue for such a request hands it to the probe, which adds tasks to it that
report to the checker, on that port of this machine and nowhere else. Without the
variable there is no probe, and a request without the right token is one like any other.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, FunctionType
from typing import Any

from bgadapters.core import host
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.app.runtime import Runtime
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.drivers.pool import Pool
from bgadapters.core.model import lines
from bgadapters.core.model.errors import BackgroundTasksError
from bgadapters.core.model.options import TaskOptions
from bgadapters.core.model.task import Call, Task, TaskWrapper, callable_name
from bgadapters.core.process import signals

HEADER = "Bgadapters-Check"
HOLD = 0.5
"""Seconds that the probe's task waits at each of its gates for the checker to open it."""
RESPONSE_GATE, NEXT_GATE = b"1", b"2"

_BUDGET = 5.0
"""Seconds that all of a visit's waits may take together, whatever the other side does."""
_CONNECT = 0.5
"""Seconds of these for the connection. The checker is on this machine and listens already."""


def visit(queue: BackgroundTasks, header: str | None, place: str, below: object = None) -> None:
    """A queue was opened whose runtime has a token; its request may be a checker's.

    Args:
        queue: the queue.
        header: the request's header ``Bgadapters-Check``.
        place: who opened it, as the checker calls it.
        below: the application that will make the response, where that is known.
    """
    port = _port_of(header, queue.runtime.check_token or "")
    if port is None:
        return
    try:
        checker = _Visit(port)
    except OSError:  # nobody listens or answers, or not on this machine
        return
    checker.say("opened", place=place, **_facts(queue.runtime, below))
    try:
        checker.add_to(queue)
    except BackgroundTasksError as exc:
        checker.say("refused", why=str(exc))


def _port_of(header: str | None, expected: str) -> int | None:
    token, _, port = (header or "").rpartition(":")
    if not hmac.compare_digest(token.encode(errors="replace"), expected.encode()):
        return None
    return int(port) if re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) < 65536 else None


class _Step(TaskWrapper):
    """A task of the probe, which stands for one that any application accepts."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    def __call__(self) -> None:
        self._run()

    def unwrap(self, task: Task) -> Call:  # noqa: ARG002  the base's
        return Call(os.getpid, (), {})


class _AsyncStep(_Step):
    __slots__ = ()

    async def __call__(self) -> None:  # type: ignore[override]
        await self._run()


class _Visit:
    """The tasks of one check in one queue, and the connection on which they report.

    When all of them are gone, run or thrown away, the connection is closed: so the
    checker hears of a queue that nothing releases.

    Where an event loop runs it waits for nothing: the loop serves others as well. Elsewhere all
    of its waits have one budget.

    Raises:
        OSError: no connection to this port of this machine can be had at once.
    """

    def __init__(self, port: int) -> None:
        self._left = _BUDGET
        self._socket = socket.socket()
        # Not __del__: where the collector finds both, the socket's own might come first.
        close = weakref.finalize(self, self._socket.close)
        try:
            with self._waiting(_CONNECT):
                self._connect(port)
        except OSError:
            close()
            raise

    def _connect(self, port: int) -> None:
        """Connect. On one machine that takes no time, but a socket may not say so at once."""
        with suppress(BlockingIOError):
            self._socket.connect(("127.0.0.1", port))
        self._socket.getpeername()  # raises unless it is connected by now

    def add_to(self, queue: BackgroundTasks) -> None:
        queue.options(name="bgadapters check, plain").add_task(_Step(self._plain))
        queue.options(name="bgadapters check, async").add_task(_AsyncStep(self._async))
        last = queue.options(name="bgadapters check, last", always=True)
        last.add_task(_Step(partial(self._last, queue.runtime)))

    def say(self, what: str, **facts: Any) -> None:
        try:
            with self._waiting():
                self._socket.sendall(json.dumps({"what": what, **facts}).encode() + b"\n")
        except OSError:  # the checker has gone, or does not read; its tasks have no more to say
            self._socket.close()

    def _plain(self) -> None:
        self.say("started", thread=threading.current_thread().name)
        self.say("held", opened=self._wait_at(RESPONSE_GATE))
        self.say("ended", opened=self._wait_at(NEXT_GATE))

    async def _async(self) -> None:
        import asyncio

        thread = threading.current_thread().name
        self.say("async-started", thread=thread, loop=callable_name(asyncio.get_running_loop()))
        await asyncio.sleep(0.01)
        self.say("async-ended")

    def _last(self, runtime: Runtime) -> None:
        self.say(
            "finished",
            sigterm=_sigterm(),
            sigterm_kills=signals.sigterm_kills(),
            is_child=_is_child(),
            refused_threads=runtime.scheduler.notices.has_refused_threads,
            hears_shutdown=runtime.hears_shutdown,
        )
        self._take_leave()

    def _take_leave(self) -> None:
        """Close the connection after the checker: with signals unread, a close would reset it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            while self._receive(16):
                pass
        self._socket.close()

    def _wait_at(self, gate: bytes) -> bool:
        """Wait for the checker to open a gate, as long as a task takes; tell whether it did."""
        deadline = time.monotonic() + HOLD
        with suppress(OSError):  # in time it was not, or the checker has gone
            while (left := deadline - time.monotonic()) > 0:
                got = self._receive(1, left)
                if not got or got == gate:  # else one that it has waited for in vain
                    return got == gate
        return False

    def _receive(self, most: int, seconds: float = _BUDGET) -> bytes:
        with self._waiting(seconds):
            return self._socket.recv(most)

    @contextmanager
    def _waiting(self, seconds: float = _BUDGET) -> Iterator[None]:
        """Let one use of the socket wait so long, and no longer than the budget has left."""
        begun = time.monotonic()
        self._socket.settimeout(0 if loop_runs_here() else max(min(seconds, self._left), 0))
        try:
            yield
        finally:
            self._left -= time.monotonic() - begun


def _facts(runtime: Runtime, below: object) -> dict[str, Any]:
    settings = {name: _shown(value) for name, value in runtime.settings._asdict().items()}
    installation = runtime.hooks.installation
    return {
        "pid": os.getpid(),
        "settings": settings,
        "missing": None if installation is None else installation.missing(),
        "callers": list(_callers(sys._getframe(2))),  # noqa: SLF001  of sys
        "below": [[_name(cls) for cls in type(each).__mro__] for each in _chain(below)],
        "patched_late": _is_patched_late(runtime),
        "threads_run": host.has_threads(),
        "ends_with_the_request": host.ends_with_the_request(),
    }


def _shown(value: Any) -> Any:
    if isinstance(value, tuple):  # of middlewares
        return [_name(each) for each in value]
    if isinstance(value, TaskOptions):
        return repr(value)
    return _name(value) if callable(value) else value


def _callers(frame: FrameType | None) -> Iterator[str]:
    """Who called for this queue: its shim, middlewares, adapters, the server."""
    while frame is not None:
        yield f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"
        frame = frame.f_back


def _chain(below: object) -> Iterator[object]:
    """The middlewares from here to the application, as far as they say what they wrap."""
    seen: set[int] = set()
    while below is not None and id(below) not in seen:
        seen.add(id(below))
        yield below
        below = _inner(below)


_NAMES = ("middleware_stack", "app", "_app", "application", "_application")


def _inner(below: object) -> object:
    """What a middleware wraps: an attribute of one of the usual names, or what a closure holds."""
    for name in _NAMES:
        try:
            inner: object = getattr(below, name, None)
        except Exception:  # the application's code
            inner = None
        if inner is not None:
            return inner
    if isinstance(below, FunctionType):
        for cell in below.__closure__ or ():
            with suppress(ValueError):  # an empty one
                if _is_application(cell.cell_contents):
                    return cell.cell_contents
    return None


def _is_application(value: object) -> bool:
    from inspect import iscoroutinefunction

    call = getattr(type(value), "__call__", None)  # noqa: B004  its value, not its presence
    return iscoroutinefunction(value) or iscoroutinefunction(call)


def _name(value: object) -> str:
    return lines.text(lambda: callable_name(value), lines.name_of_type(value))


def _is_patched_late(runtime: Runtime) -> bool:
    """Whether gevent has replaced the locks and queues of Python after ours were made."""
    return Pool(1).primitives() != runtime.scheduler.pool.primitives()


def _sigterm() -> str:
    """What SIGTERM does to this process: a handler's name, or one of ``signal.Handlers``.

    Empty for a handler that Python does not know.
    """
    handler = signals.sigterm_handler()
    if isinstance(handler, signal.Handlers):
        return handler.name
    return "" if handler is None else _name(handler)


def _is_child() -> bool:
    """Whether `multiprocessing` started this process, whose parent then is what gets signals."""
    multiprocessing = host.imported("multiprocessing")
    return multiprocessing is not None and multiprocessing.parent_process() is not None
