"""uWSGI: threads that may not run, forks that Python does not see, a grace period that it tells."""

from __future__ import annotations

from functools import cache
from typing import Any

from bgadapters.core.host.modules import imported

_DEFAULT_MERCY = 60  # seconds

HOW_TO_HAVE_THREADS = "Set enable-threads in uWSGI"
HOW_TO_GIVE_MORE = "worker-reload-mercy and reload-mercy of uWSGI"


@cache
def _uwsgi() -> Any:
    """The module of uWSGI, which exists only inside of it, from the beginning."""
    return imported("uwsgi")


def has_threads() -> bool:
    """Whether threads run.

    Without ``enable-threads`` uWSGI keeps the interpreter to itself while it waits for a request.
    """
    return bool(getattr(_uwsgi(), "has_threads", True))


def hides_forks() -> bool:
    """Whether the server forks without telling Python, so that no hook of a child is called.

    uWSGI does, in C, unless it is started with ``py-call-osafterfork``.
    """
    return _uwsgi() is not None


def grace_period() -> float | None:
    """The seconds that a worker gets to end, from uWSGI's own options; None elsewhere."""
    if _uwsgi() is None:
        return None
    options = getattr(_uwsgi(), "opt", {})
    names = ("worker-reload-mercy", "reload-mercy")
    return min(float(options.get(name, _DEFAULT_MERCY)) for name in names)
