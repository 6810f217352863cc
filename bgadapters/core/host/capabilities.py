"""The questions, each answered by the family of servers that it is about."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from contextvars import Context

from bgadapters.core.host import asgi_servers, gevent, gunicorn, uwsgi
from bgadapters.core.host.modules import imported

has_threads = uwsgi.has_threads
hides_forks = uwsgi.hides_forks
threads_are_greenlets = gevent.threads_are_greenlets
closes_with_the_call = asgi_servers.closes_with_the_call
is_ending = asgi_servers.is_ending
raises_again = asgi_servers.raises_again
raises_here = asgi_servers.raises_here


def grace_period() -> tuple[float, str] | None:
    """Return the seconds that the server gives a process to end, and the options that say so.

    None where it does not tell.
    """
    for server in uwsgi, gunicorn:
        seconds = server.grace_period()
        if seconds is not None:
            return seconds, server.HOW_TO_GIVE_MORE
    return None


def start_thread(thread: threading.Thread, at_once: bool = False) -> None:
    """Start a thread that belongs to no request.

    Agents that follow a request into the threads that it starts (OpenTelemetry's, Sentry's) note
    the context in which a thread is started, and keep it as long as the thread lives. One that
    runs the tasks of many requests is therefore started in an empty context.

    Args:
        thread: the thread.
        at_once: whether it must have begun when this returns, also where threads are greenlets.

    Raises:
        RuntimeError: there can be no more threads.
    """
    start = gevent.start_later if threads_are_greenlets() and not at_once else _start
    Context().run(start, thread)


def start_real_thread(run: Callable[[], None], name: str) -> None:
    """Start a thread of the operating system, also where threads are greenlets.

    For what blocks by means that no server knows of, such as the driver of a database. It belongs
    to no request and ends with the process.

    Args:
        run: what it runs; it raises nothing.
        name: that of the thread.

    Raises:
        RuntimeError: there can be no more threads.
    """
    if threads_are_greenlets():
        Context().run(gevent.original("_thread", "start_new_thread"), run, ())
    else:
        start_thread(threading.Thread(target=run, name=name, daemon=True))


def real_lock() -> _thread.LockType:
    """Return a lock that works between such threads, also where threads are greenlets."""
    make = gevent.original("_thread", "allocate_lock") if threads_are_greenlets() else None
    lock: _thread.LockType = (make or _thread.allocate_lock)()
    return lock


def wait_for_thread(
    is_done: Callable[[Callable[[], object]], bool], timeout: float | None = None
) -> None:
    """Wait in this thread for what such a thread does.

    Args:
        is_done: tells whether it is done; if not, it calls what it is given, in that thread, once
            it is.
        timeout: seconds to wait at most. Default: no limit.
    """
    if threads_are_greenlets():
        gevent.wait_for_thread(is_done, timeout)
        return
    done = threading.Event()
    if not is_done(done.set):
        done.wait(timeout)


def may_block() -> bool:
    """Whether this thread can do what blocks and must not be left half done.

    Greenlets share one thread. In the main thread a signal handler may raise in the middle of it.
    """
    return not threads_are_greenlets() and _thread.get_ident() != threading.main_thread().ident


def _start(thread: threading.Thread) -> None:
    thread.start()


def signal_main_thread(signum: int) -> None:
    """Send this process a signal, for its main thread to wake up and handle."""
    if threads_are_greenlets():  # whose identifiers are none of the system's
        os.kill(os.getpid(), signum)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signum)


def owns_signals() -> bool:
    """Whether the server refuses signal handlers: mod_wsgi does, with a word in Apache's log."""
    return imported("mod_wsgi") is not None
