"""What servers do that no specification tells: the one place that names them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import cache
from importlib import import_module
from typing import Any


@cache
def _uwsgi() -> Any:
    """The module of uWSGI, which exists only inside of it."""
    try:
        return import_module("uwsgi")
    except ImportError:
        return None


def threads_run() -> bool:
    """Whether a thread that was started also runs.

    uWSGI without ``enable-threads`` keeps the interpreter to itself while it waits for a request.
    """
    return bool(getattr(_uwsgi(), "has_threads", True))


def patience() -> float | None:
    """The seconds that the server gives a process that is to end; None where it does not tell.

    uWSGI alone does: its options are in its module, and its default is 60 seconds.
    """
    if _uwsgi() is None:
        return None
    options = getattr(_uwsgi(), "opt", {})
    return min(float(options.get(name, 60)) for name in ("worker-reload-mercy", "reload-mercy"))


def threads_are_greenlets() -> bool:
    """Whether gevent has patched threading: all of its threads are then one to asyncio."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Under gevent without waiting until it has begun: that would let other greenlets run in the
    middle of an event loop's step, and they would take its loop for theirs.

    Raises:
        RuntimeError: there can be no more threads.
    """
    if threads_are_greenlets():
        sys.modules["gevent"].spawn(thread.start)
    else:
        thread.start()


def closes_with_the_call() -> bool:
    """Whether the client of a connection that is to be closed waits for the ASGI call to return.

    gunicorn's ASGI worker is the only one of the servers that closes no earlier. It speaks
    lifespan, and waits for tasks that it cancels, so nothing is lost if the call does not wait.
    """
    return "gunicorn.workers.gasgi" in sys.modules


def signal_main_thread(signum: int) -> None:
    """Send this process a signal, for its main thread to wake up and handle."""
    if threads_are_greenlets():  # whose identifiers are none of the system's
        os.kill(os.getpid(), signum)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signum)


def is_ending() -> bool:
    """Whether the server was told to end and waits for open requests, without a limit.

    uvicorn does, and tells the application nothing until they have all ended; but its handler
    of SIGTERM is a method of its server, whose ``should_exit`` tells.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


def owns_signals() -> bool:
    """Whether the server refuses signal handlers: mod_wsgi does, with a word in Apache's log."""
    return "mod_wsgi" in sys.modules
