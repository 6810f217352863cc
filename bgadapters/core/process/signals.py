"""SIGTERM where a server leaves it to kill the process, and signals while tasks are waited for.

Servers without a handler of their own (waitress, Werkzeug's, wsgiref, those that put back
what they found) die of SIGTERM at once. There it raises `Terminated` in the
main thread, so that the server stops as it does on Ctrl-C, and the process ends by its exit
hooks.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from bgadapters.core import host
from bgadapters.core.drivers.loops import running_loop
from bgadapters.core.model import guard

_SAME_SIGNAL = 1.0  # seconds; a group and its supervisor often tell a process the same thing twice
_AGAIN = 3.0  # seconds that a server gets to end after it has let go of the exception
_LEAST_GRACE = 30.0  # seconds at least for a server that stops
_INSIDE = 0.05  # seconds after which the main thread is told again that was at work on a task
_LAST_CHANCE = 1.0  # seconds that other threads get to end when the tasks have
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_STATUS = "/proc/self/status"
_installed_in = 0  # the process in which SIGTERM was given our handler


class Terminated(SystemExit):
    """SIGTERM, on its way through the main thread; the process ends with status 0."""

    def __init__(self, on_forgotten: Callable[[], object]) -> None:
        super().__init__(0)
        self._on_forgotten = on_forgotten

    def __del__(self) -> None:
        self._on_forgotten()


class _Termination:
    """What SIGTERM does, from the first one to the end of the process.

    Args:
        has_pending_work: tells whether anything would be lost if the process ended at once.
        grace_period: seconds after which a server that is still there is told again.
    """

    def __init__(self, has_pending_work: Callable[[], bool], grace_period: float) -> None:
        self._has_pending_work = has_pending_work
        self._grace_period = grace_period
        self._asked_at: float | None = None  # the first signal
        self._heard_at = 0.0  # the last one that was new
        self._told_again = False  # set by whoever tells again, taken back by the main thread

    @property
    def was_asked(self) -> bool:
        """Whether this has begun the end of the process."""
        return self._asked_at is not None

    def ask(self, now: float) -> bool:
        """Note that SIGTERM came while the exit hooks wait; tell whether it was the first."""
        is_first = self._asked_at is None
        if is_first:
            self._asked_at = self._heard_at = now
        return is_first

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self._has_pending_work():
            exit_by_signal(signum)
        elif self._asked_at is None or self._told_again:
            self._asked_at = self._asked_at or now
            self._heard_at = now
            self._told_again = False
            self._end(now - self._asked_at, frame)
        elif now - self._heard_at > _SAME_SIGNAL:
            exit_by_signal(signum)

    def _end(self, waited: float, frame: FrameType | None) -> None:
        """Raise in the main thread, unless a task or its queue would take it for its own.

        Until then the request that is being answered there goes on. Where an event loop runs there,
        it raises: what comes out of the step of an asyncio task would count as that task's own. But
        where a server raises the signal again, the asyncio task that ends is the server's.
        """
        if _ending.is_set():  # the main thread is over, and waits for others or for tasks
            if _is_joining(frame):
                _leave_soon()
            return
        if waited < self._grace_period and _is_at_work(frame):
            self._tell_again_after(_INSIDE)
            return
        forgotten = threading.Event()
        self._tell_again_after(_AGAIN, forgotten)
        end = Terminated(forgotten.set)
        loop = running_loop()
        if loop is not None and waited < self._grace_period and not host.raises_here(frame):
            loop.call_soon_threadsafe(_raise, end)  # between the steps of asyncio tasks, not in one
            return
        if _is_joining(frame):
            _say_nothing_of_terminated()
        try:
            raise end
        finally:
            del end  # or it would be kept by its own traceback until the garbage is collected

    def _tell_again_after(self, pause: float, forgotten: threading.Event | None = None) -> None:
        with suppress(RuntimeError):  # no more threads: the next signal will have to do
            _thread.start_new_thread(self._tell_again, (pause, forgotten))

    def _tell_again(self, pause: float, forgotten: threading.Event | None) -> None:
        """Tell the main thread again, which was at work or has caught and forgotten the exception.

        wsgiref forgets it; a server that stops keeps it while it handles it. Told until it hears:
        a signal that comes as a thread begins to wait for a lock does not wake it.
        """
        if forgotten is not None:
            forgotten.wait(max(self._grace_period, _LEAST_GRACE))
        if _ending.wait(pause):
            return
        self._told_again = True
        while self._told_again:
            host.signal_main_thread(signal.SIGTERM)
            if _ending.wait(_INSIDE):
                return


def _raise(end: Terminated) -> None:
    try:
        raise end
    finally:
        del end  # as above


def _is_at_work(frame: FrameType | None) -> bool:
    """Whether the main thread is somewhere below this package."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("bgadapters."):
            return True
        frame = frame.f_back
    return False


_ending = threading.Event()  # the exit hooks have begun


def mark_shutdown() -> None:
    """The exit hooks have begun: nobody has to be told again."""
    _ending.set()


def end_on_sigterm(has_pending_work: Callable[[], bool], grace_period: float) -> None:
    """Have SIGTERM end this process by its exit hooks, if it would kill it otherwise.

    Only the main thread may, and only the default action is replaced. Where nothing is at
    stake the default action is taken all the same.
    """
    global _installed_in
    if threading.current_thread() is not threading.main_thread() or host.owns_signals():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with suppress(ValueError):  # a main thread, but of a sub-interpreter
            signal.signal(signal.SIGTERM, _Termination(has_pending_work, grace_period))
            _installed_in = os.getpid()


def sigterm_handler() -> object:
    """What SIGTERM does to this process: its handler, or one of ``signal.Handlers``.

    None for a handler that Python does not know. Of those it knows no more than what it
    found when it started, so the system is asked.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and not isinstance(handler, signal.Handlers):
        return handler
    try:
        with open(_STATUS) as file:
            masks = dict(line.split(":", 1) for line in file)
        caught, ignored = (int(masks[name], 16) for name in ("SigCgt", "SigIgn"))
    except (OSError, KeyError):  # not Linux
        return handler
    bit = 1 << signal.SIGTERM - 1
    return None if caught & bit else signal.SIG_IGN if ignored & bit else signal.SIG_DFL


def sigterm_kills() -> bool:
    """Whether SIGTERM ends this process without its exit hooks, sooner or later."""
    handler = sigterm_handler()
    if handler is signal.SIG_DFL:
        return True
    return host.raises_again(handler) and _installed_in != os.getpid()


@contextmanager
def ending_at_once() -> Iterator[None]:
    """The exit hooks wait for tasks: meanwhile further signals end the process without them.

    Whichever handler the server has left would raise into the wait, or do nothing. Where SIGTERM
    has begun it (`Terminated`) any further signal ends it, otherwise the second one. SIGTERM
    counts only where we handle it: a worker that was recycled gets its first one while it waits,
    and a master may repeat it for as long as a worker is there.

    The handlers are put back after the wait: a server may go on in a thread that is no daemon.
    """
    if threading.current_thread() is not threading.main_thread() or host.owns_signals():
        yield
        return
    ours = _our_termination()
    told = int(ours is not None and ours.was_asked)
    last, process = time.monotonic(), os.getpid()

    def end(signum: int, _: FrameType | None) -> None:
        nonlocal last, told
        now = time.monotonic()
        if process != os.getpid():  # a child of a fork
            exit_by_signal(signum)
            return
        is_sigterm = signum == signal.SIGTERM
        if is_sigterm and ours is None:
            return
        is_first = is_sigterm and ours is not None and ours.ask(now)
        if is_first or now - last > _SAME_SIGNAL:
            last, told = now, told + 1
            if told > 1:
                exit_by_signal(signum)

    replaced: list[tuple[signal.Signals, Any]] = []
    try:
        for each in _ENDING:
            with suppress(ValueError):  # a main thread, but of a sub-interpreter
                replaced.append((each, signal.signal(each, end)))
        yield
    finally:
        for signum, handler in replaced:
            if handler is not None:  # one that was not set by Python, which cannot put it back
                signal.signal(signum, handler)


def leave_threads_behind() -> None:
    """The tasks have ended: end the process soon, though threads are left that are no daemons.

    Python would wait for them without end. Where SIGTERM has begun the end of the process it would
    have taken them along, had it not been for `end_on_sigterm`.
    """
    ours = _our_termination()
    if ours is not None and ours.was_asked and any(_joined_threads()):
        _leave_soon()


def leave_no_more() -> None:
    """Python has waited for threads. Its last steps undo handlers, and the alarm would kill it."""
    if signal.getsignal(signal.SIGALRM) is _leave:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _leave_soon() -> None:
    signal.signal(signal.SIGALRM, _leave)
    signal.setitimer(signal.ITIMER_REAL, _LAST_CHANCE, _INSIDE)


def _leave(_: int, frame: FrameType | None) -> None:
    """Break off Python's wait for threads, or find that it has ended."""
    if _is_at_work(frame):  # an exit hook of ours: asked again soon
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    if _is_joining(frame):
        left = ", ".join(thread.name for thread in _joined_threads())
        guard.log(logging.WARNING, "The process ends, though threads are left: %s", left)
        _say_nothing_of_terminated()
        raise Terminated(lambda: None)


def _our_termination() -> _Termination | None:
    """Return the handler of SIGTERM, if it is ours."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler if isinstance(handler, _Termination) else None


def _is_joining(frame: FrameType | None) -> bool:
    """Whether the main thread has come to its end and waits there for other threads."""
    while frame is not None:
        if frame.f_code.co_name == "_shutdown" and frame.f_globals.get("__name__") == "threading":
            return True
        frame = frame.f_back
    return False


def _say_nothing_of_terminated() -> None:
    """Python prints what breaks off its wait for threads, and goes on with its exit hooks."""
    hook = sys.unraisablehook

    def print_others(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, Terminated):
            hook(unraisable)

    sys.unraisablehook = print_others


def _joined_threads() -> Iterator[threading.Thread]:
    """Those that Python waits for at the end of the process."""
    main = threading.main_thread()
    return (each for each in threading.enumerate() if not each.daemon and each is not main)


@contextmanager
def reaching_the_server() -> Iterator[None]:
    """Have Ctrl-C in this block end a server that catches and forgets what is raised in a request.

    It is told once more when it has come out of the request.
    """
    try:
        yield
    except KeyboardInterrupt:
        if host.forgets_interruptions():
            with suppress(RuntimeError):  # no more threads: the next Ctrl-C will have to do
                _thread.start_new_thread(_interrupt_again, ())
        raise


def _interrupt_again() -> None:
    if not _ending.wait(_INSIDE):
        host.signal_main_thread(signal.SIGINT)


def exit_by_signal(signum: int) -> None:
    """Take the default action of a signal."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the first process of a container, which has no default action
