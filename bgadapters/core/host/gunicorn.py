"""gunicorn: a grace period that its workers know."""

from __future__ import annotations

import signal

_OPTION = "graceful_timeout"
HOW_TO_GIVE_MORE = f"{_OPTION} of gunicorn"


def grace_period() -> float | None:
    """The seconds that a worker gets to end, from gunicorn's configuration; None elsewhere.

    Its handlers of signals are methods of the worker, or of the master where that imports the
    application. uvicorn's worker has one of them left, that of SIGUSR1.
    """
    for each in signal.SIGTERM, signal.SIGUSR1:
        worker = getattr(signal.getsignal(each), "__self__", None)
        seconds = getattr(getattr(worker, "cfg", None), _OPTION, None)
        if isinstance(seconds, int):
            return float(seconds)
    return None
