"""What servers do that no specification tells, as questions about capabilities.

One module for each family of servers. No other part of the package names a server.
"""

from bgadapters.core.host.capabilities import (
    closes_with_the_call,
    grace_period,
    has_threads,
    hides_forks,
    is_ending,
    may_block,
    owns_signals,
    raises_again,
    raises_here,
    real_lock,
    signal_main_thread,
    start_real_thread,
    start_thread,
    threads_are_greenlets,
    wait_for_thread,
)
from bgadapters.core.host.forking import ends_with_the_request
from bgadapters.core.host.interruptions import forgets_interruptions, raised_by_signal
from bgadapters.core.host.modules import imported
from bgadapters.core.host.stack import (
    frame_of_thread,
    shown_coroutine,
    shown_thread,
    watched_thread,
)
from bgadapters.core.host.uwsgi import HOW_TO_HAVE_THREADS

__all__ = [
    "HOW_TO_HAVE_THREADS",
    "closes_with_the_call",
    "ends_with_the_request",
    "forgets_interruptions",
    "frame_of_thread",
    "grace_period",
    "has_threads",
    "hides_forks",
    "imported",
    "is_ending",
    "may_block",
    "owns_signals",
    "raised_by_signal",
    "raises_again",
    "raises_here",
    "real_lock",
    "shown_coroutine",
    "shown_thread",
    "signal_main_thread",
    "start_real_thread",
    "start_thread",
    "threads_are_greenlets",
    "wait_for_thread",
    "watched_thread",
]
