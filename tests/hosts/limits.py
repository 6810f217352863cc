"""What servers do not allow: the cells of the host table that are not "yes", each with its reason.

A test of such a cell is expected to fail, strictly: when it passes, the entry must go. Only
for what a server does; each was read in its source or seen on the wire.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.hosts.servers import HOSTS


class Limit(NamedTuple):
    """A promise that cannot be kept on some hosts, for all or some of its tests.

    A case is the name of a test and its arguments except the host, with blanks between.
    """

    hosts: tuple[str, ...]  # patterns of names
    promise: int
    cases: tuple[str, ...]  # patterns
    why: str
    instead: str
    can_be_tried: bool = True
    always: bool = True  # False: whether its tests fail depends on how quick the client is

    def is_met_by(self, host: str, promise: int, case: str) -> bool:
        return self.concerns(host, promise) and _matches(case, self.cases)

    def concerns(self, host: str, promise: int) -> bool:
        return promise == self.promise and _matches(host, self.hosts)


_HYPERCORN = (
    "Under WSGI, hypercorn sends the head of a response with the first part of its body. To a body "
    "without parts, as of a 304, of Flask's 204 and of its answers to HEAD, it answers 500, with "
    "and without this library. The tasks run."
)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_NO_THREADS = (
    "Without threads a task runs in the thread that has answered, after the response: uWSGI takes "
    "no other request meanwhile, and a client that waits for the end of the connection waits too."
)
_THREADS = "`enable-threads = true`."


def _without_threads(promise: int, *cases: str, can_be_tried: bool = True) -> Limit:
    return Limit(("*-uwsgi-nothreads",), promise, cases, _NO_THREADS, _THREADS, can_be_tried)


_RESET = (
    "Werkzeug's development server looks for unread input before it calls `close()`, and does not "
    "call it if the client has reset the connection by then. So the tasks of a client that leaves "
    "at once may be lost, with a `ResourceWarning`; and those of a HEAD request to an application "
    "that leaves the body to the server, as Django does, since the server sends it and the client "
    "does not read it."
)


def _reset(host: str, promise: int, case: str) -> Limit:
    instead = "a server that is meant for production."
    return Limit((host,), promise, (case,), _RESET, instead, always=False)


_ALONE = (
    "A view is imported when the first request comes, where a handler of SIGTERM cannot be set: in "
    "a thread that is not the main one, or while uvicorn has its own. With the decorator alone "
    "SIGTERM then kills the process and its tasks. A warning at the first task says so."
)


def _decorator_alone(*servers: str, always: bool = True) -> Limit:
    hosts = tuple(f"django-alone-{server}" for server in servers)
    instead = '`"bgadapters.django"` in `INSTALLED_APPS`, or `bgadapters.django.asgi` under ASGI.'
    return Limit(hosts, 9, ("test_sigterm",), _ALONE, instead, always=always)


LIMITS: tuple[Limit, ...] = (
    # Each of these costs the patience of a test; a few of them stand for the others.
    _without_threads(2, "test_nobody_waits_for_a_task GET stream 1.0 sync"),
    _without_threads(3, "test_the_next_request_does_not_wait GET length sync"),
    _without_threads(8, "test_while_a_task_runs FIN"),
    _without_threads(
        2,
        "test_nobody_waits_for_a_task * stream *",
        "test_nobody_waits_for_a_task * async/stream *",
        "test_nobody_waits_for_a_task GET no-content *",
        "test_nobody_waits_for_a_task GET not-modified *",
        "test_nobody_waits_for_a_task HEAD *",
        "test_a_large_body_read_slowly * *large-stream",
        can_be_tried=False,
    ),
    _without_threads(3, "test_the_next_request_does_not_wait *", can_be_tried=False),
    _without_threads(4, "test_responses_run_side_by_side"),
    _without_threads(8, "test_while_a_task_runs *", can_be_tried=False),
    _without_threads(9, "test_sigterm", can_be_tried=False),
    _reset("django*-werkzeug", 2, "test_nobody_waits_for_a_task HEAD *"),
    _reset("django*-werkzeug", 3, "test_the_next_request_does_not_wait HEAD *"),
    _reset("django*-werkzeug", 7, "test_exactly_once"),
    _reset("*-werkzeug", 8, "test_right_after_the_response *"),
    Limit(
        ("django-hypercorn",),
        2,
        ("test_nobody_waits_for_a_task GET not-modified *",),
        _HYPERCORN,
        "Another WSGI server, or Django under ASGI.",
    ),
    Limit(
        ("flask-hypercorn",),
        2,
        (
            "test_nobody_waits_for_a_task GET no-content *",
            "test_nobody_waits_for_a_task GET not-modified *",
            "test_nobody_waits_for_a_task HEAD *",
        ),
        _HYPERCORN,
        "Another WSGI server.",
    ),
    _decorator_alone("waitress", "cheroot", "werkzeug"),
    _decorator_alone("uvicorn", always=False),  # it takes a moment to end
    Limit(
        ("flask-uwsgi",),
        9,
        ("test_sigterm_while_a_view_is_at_work",),
        "With `die-on-term`, a process of uWSGI that is in the middle of a request when SIGTERM "
        "comes ends without Python's exit hooks: its tasks are lost.",
        "Write `q` to its `master-fifo`, or use `exit-on-reload` and SIGHUP.",
    ),
    Limit(
        ("*-mod_wsgi",),
        9,
        ("test_the_whole_server_is_stopped",),
        "When Apache itself is stopped or restarted, it kills the processes of mod_wsgi three "
        "seconds later, whatever their `shutdown-timeout`: tasks that take longer are lost without "
        "a word.",
        "Touch the script to deploy; or have the processes end before Apache, see "
        "[Apache and nginx](hosts-apache-nginx.md).",
    ),
)


def limits_of(host: str, promise: int) -> list[Limit]:
    """The limits of a cell of the table."""
    return [limit for limit in LIMITS if limit.concerns(host, promise)]


def find_limit(host: str, promises: tuple[int, ...], case: str) -> Limit | None:
    """The limit that makes a test fail on a host, if there is one."""
    for limit in LIMITS:
        if any(limit.is_met_by(host, promise, case) for promise in promises):
            return limit
    return None


def unknown_hosts() -> list[str]:
    """Patterns that match no host."""
    patterns = {pattern for limit in LIMITS for pattern in limit.hosts}
    return [pattern for pattern in patterns if not any(fnmatchcase(h, pattern) for h in HOSTS)]
