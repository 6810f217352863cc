"""Processes that are told to end, recycled or reloaded: everything that was released finishes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.held import expect_all, hold_tasks
from tests.hosts.servers import Server, marks, on_hosts

pytestmark = pytest.mark.promise(9)

_NAMED = "background task(s) abandoned, not finished within the drain timeout of 1 s: "


def complaints(server: Server) -> list[str]:
    """What a server has said of tasks that failed or were abandoned."""
    lines = server.log().splitlines()
    return [line for line in lines if "abandoned" in line or "Background task " in line]


@pytest.mark.ends_its_server
def test_sigterm(server: Server, events: EventLog, run: str) -> None:
    """Nothing more is taken in; what runs and what waits finishes, sync and async; then it ends.

    On uWSGI, in the way that its notes recommend.
    """
    before = complaints(server)
    hold_tasks(server, events, run)
    server.terminate()
    server.wait_until_deaf()
    expect_all(events, run)
    server.wait()
    assert complaints(server) == before


@on_hosts(
    *("flask-gunicorn-gthread", "flask-gunicorn-gevent", "flask-waitress", "flask-cheroot"),
    *("flask-granian", "flask-uwsgi", "fastapi-init-uvicorn", "django-uvicorn", "django-daphne"),
)
def test_sigterm_while_a_view_is_at_work(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """A request that is not answered yet does not cost the tasks of those that were."""
    server = start(host)
    hold_tasks(server, events, run)
    events.hold(f"{run}-view")
    with Client(server.port) as client:
        client.send("GET", f"/wait?run={run}")
        events.wait(f"{run}-view", "start view")
        server.signal(signal.SIGTERM)
        if "daphne" in host:  # which goes on serving until a view in a thread has ended
            server.wait_for_log("Killed 1 pending application instances")
        else:
            server.wait_until_deaf()
        events.let_go(f"{run}-view")
        expect_all(events, run)


_ON_THEIR_OWN = [
    *(f"fastapi-init-{name}" for name in ("uvicorn", "gunicorn-uvicorn", "gunicorn-asgi")),
    *("fastapi-init-hypercorn-asgi", "fastapi-init-granian-asgi", "django-wrapped-uvicorn"),
]


@on_hosts(*_ON_THEIR_OWN)
def test_sigterm_where_no_request_is_open_any_more(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """Tasks for which no call waits finish as well."""
    server = start(host, AWAIT_TASKS="False")
    hold_tasks(server, events, run)
    server.terminate()
    server.wait_until_deaf()
    expect_all(events, run)
    assert server.wait() == 0
    assert "abandoned" not in server.log()
    assert "Background task" not in server.log()


@on_hosts("fastapi-init-uvicorn")
def test_a_limit_of_open_requests_counts_no_tasks(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    limit = 4
    server = start(host, "--limit-concurrency", str(limit), AWAIT_TASKS="False")
    events.hold(run)
    with Client(server.port) as client:
        for number in range(limit):
            client.request("GET", f"/length?run={run}&plan=async:{number}")
            events.wait(run, f"start {number}")
        assert client.request("GET", "/length?run=other").status == 200
    events.let_go(run)
    events.wait(run, *(f"end {number}" for number in range(limit)))


@on_hosts("flask-mod_wsgi", "django-mod_wsgi")
def test_the_whole_server_is_stopped(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """It waits for a task that needs as long as tasks may."""
    server = start(host)
    events.hold(run)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1")
    events.wait(run, "start 1")
    server.signal(signal.SIGTERM)
    in_time = threading.Timer(5, events.let_go, [run])  # well below the drain timeout
    in_time.start()
    server.wait()
    in_time.cancel()
    assert "end 1" in events.whats(run)


# One host a server: that of the framework whose shim has most to do there.
_DEADLINES = [
    *(f"flask-{name}" for name in ("wsgiref", "werkzeug", "gunicorn-sync", "gunicorn-gthread")),
    *(f"flask-{name}" for name in ("gunicorn-gevent", "waitress", "cheroot", "granian", "uwsgi")),
    *(f"flask-{name}" for name in ("hypercorn", "a2wsgi-uvicorn")),
    *(f"fastapi-init-{name}" for name in ("uvicorn", "gunicorn-uvicorn", "gunicorn-asgi")),
    *(f"fastapi-init-{name}" for name in ("hypercorn-asgi", "granian-asgi", "daphne")),
    *(f"django-{name}" for name in ("uvicorn", "daphne", "granian-asgi", "gunicorn-asgi")),
    *("django-runserver", "django-hypercorn-asgi", "django-wrapped-uvicorn"),
]

# Django under ASGI has no lifespan, on whatever server: two stand for the others.
_REPEATS = {
    *(f"django-{name}" for name in ("granian-asgi", "gunicorn-asgi", "hypercorn-asgi")),
    "flask-a2wsgi-uvicorn",
}


@on_hosts(*_DEADLINES, repeats=_REPEATS)
def test_the_deadline(start: Callable[..., Server], events: EventLog, run: str, host: str) -> None:
    """After it async tasks are cancelled, and one WARNING names what was abandoned."""
    server = start(host, DRAIN_TIMEOUT="1")
    events.hold(run)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=endless:1,async:2")
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:3,sync:4")
    events.wait(run, "start 1", "start 3")
    server.terminate()
    server.wait()
    events.wait(run, "cancelled 1")
    (line,) = (line for line in server.log().splitlines() if _NAMED in line)
    names = line.partition(_NAMED)[2].split(", ")
    assert sorted(name.rpartition(".")[2] for name in names) == [
        "async_task",
        "endless_task",
        "sync_task",
        "sync_task",
    ]


@on_hosts("flask-waitress", "flask-werkzeug", "flask-cheroot", "django-runserver")
def test_a_second_signal(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """While a process that SIGTERM would have killed waits for tasks, another ends it at once."""
    server = start(host)
    hold_tasks(server, events, run)
    server.signal(signal.SIGTERM)
    server.wait_for_log("The process ends when 7 background task(s) have finished")
    server.signal(signal.SIGTERM)
    assert server.wait() == -signal.SIGTERM


@on_hosts("flask-gunicorn-sync")
def test_a_worker_that_was_recycled_is_not_ended_by_its_masters_signal(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """It waits for tasks already when the first SIGTERM reaches it."""
    server = start(host, "--max-requests", "2", "--graceful-timeout", "20")
    hold_tasks(server, events, run)
    server.wait_for_log("The process ends when 7 background task(s) have finished")
    server.signal(signal.SIGHUP)  # the master's new workers replace it, with SIGTERM
    with Client(server.port) as client:  # which the new one answers
        assert client.request("GET", f"/length?run={run}-next").status == 200
    expect_all(events, run)
    assert "was sent SIGTERM" not in server.log()


_SIGNS_OF_SIGINT = {
    "flask-gunicorn-gevent": "Worker exiting",  # it goes on serving while its worker waits
    "flask-wsgiref": "KeyboardInterrupt",  # it would swallow one that meets a request
}

_SIGNALS = [
    *(
        (host, signal.SIGINT, _SIGNS_OF_SIGINT.get(host, ""))
        for host in _DEADLINES
        # which leaves SIGQUIT, what a master makes of SIGINT, to kill it
        # and uWSGI ends a process that is at work without its exit hooks, see the limits
        # and gunicorn's ASGI worker cancels what runs within a second: SIGTERM is the graceful one
        if host
        not in {
            "fastapi-init-gunicorn-uvicorn",
            "flask-uwsgi",
            "fastapi-init-gunicorn-asgi",
            "django-gunicorn-asgi",
        }
    ),
    ("flask-gunicorn-sync", signal.SIGQUIT, ""),
    # No request may arrive with the signal: gthread then waits for a lock that it holds itself.
    ("django-gunicorn-gthread", signal.SIGQUIT, "Handling signal: quit"),
    ("flask-gunicorn-gevent", signal.SIGQUIT, "Worker exiting"),
    ("flask-gunicorn-sync", signal.SIGHUP, "Worker exiting"),
    ("django-gunicorn-gthread", signal.SIGHUP, "Worker exiting"),
    ("flask-gunicorn-gevent", signal.SIGHUP, "Worker exiting"),
    ("fastapi-init-gunicorn-asgi", signal.SIGHUP, "Worker shutting down"),
    ("fastapi-init-gunicorn-uvicorn", signal.SIGHUP, "Waiting for background tasks"),
    ("django-gunicorn-uvicorn", signal.SIGHUP, "Shutting down"),
    ("flask-uwsgi", signal.SIGHUP, "gracefully"),
    ("flask-granian", signal.SIGHUP, "Respawning"),
    ("fastapi-init-granian-asgi", signal.SIGHUP, "Respawning"),
    ("fastapi-init-hypercorn-asgi", signal.SIGHUP, ""),
]


@pytest.mark.parametrize(
    ("host", "number", "sign"),
    [
        pytest.param(
            host,
            number,
            sign,
            marks=marks(host, number is signal.SIGINT and host in _REPEATS),
            id=f"{host}-{number.name}",
        )
        for host, number, sign in _SIGNALS
    ],
)
def test_other_signals(
    start: Callable[..., Server],
    events: EventLog,
    run: str,
    host: str,
    number: signal.Signals,
    sign: str,
) -> None:
    """SIGINT; SIGQUIT and SIGHUP, where the server defines what they do."""
    server = start(host)
    hold_tasks(server, events, run)
    server.signal(number)
    server.wait_for_log(sign) if sign else server.wait_until_deaf()
    expect_all(events, run)
    assert "abandoned" not in server.log()


_RECYCLED: list[tuple[str, str, str]] = [
    ("flask-gunicorn-sync", "--max-requests 2", "Worker exiting"),
    ("django-gunicorn-gthread", "--max-requests 2", "Worker exiting"),
    ("flask-gunicorn-gevent", "--max-requests 2", "Worker exiting"),
    ("fastapi-init-gunicorn-asgi", "--max-requests 2", "Worker shutting down"),
    ("django-gunicorn-asgi", "--max-requests 2", "Worker shutting down"),
    ("fastapi-init-gunicorn-uvicorn", "--max-requests 2", "Shutting down"),
    ("fastapi-init-uvicorn", "--limit-max-requests 2", "Shutting down"),
    ("django-uvicorn", "--limit-max-requests 2", "Shutting down"),
    ("django-wrapped-uvicorn", "--limit-max-requests 2", "Shutting down"),
    ("flask-uwsgi", "--max-requests 2", "worker 1"),
]


@pytest.mark.parametrize(
    ("host", "options", "sign"),
    [pytest.param(*each, marks=marks(each[0]), id=each[0]) for each in _RECYCLED],
)
def test_recycling(
    start: Callable[..., Server], events: EventLog, run: str, host: str, options: str, sign: str
) -> None:
    """A process that ends after so many requests finishes the tasks of all of them."""
    server = start(host, *options.split())
    hold_tasks(server, events, run)
    server.wait_for_log(sign)
    expect_all(events, run)
    assert "abandoned" not in server.log()


@pytest.mark.parametrize(
    ("host", "options", "sign"),
    [
        pytest.param(*each, marks=marks(each[0]), id=each[0])
        for each in _RECYCLED
        if each[0] in ("fastapi-init-uvicorn", "fastapi-init-gunicorn-uvicorn")
    ],
)
def test_recycling_where_no_request_is_open_any_more(
    start: Callable[..., Server], events: EventLog, run: str, host: str, options: str, sign: str
) -> None:
    server = start(host, *options.split(), AWAIT_TASKS="False")
    hold_tasks(server, events, run)
    server.wait_for_log(sign)
    expect_all(events, run)
    assert "abandoned" not in server.log()


@on_hosts("fastapi-init-uvicorn", "django-wrapped-uvicorn")
def test_reload(
    start: Callable[..., Server], events: EventLog, run: str, host: str, tmp_path: Any
) -> None:
    """A development server that is reloaded finishes what the old code has released."""
    watched = tmp_path / "watched.py"
    watched.touch()
    server = start(host, "--reload", "--reload-dir", str(tmp_path))
    hold_tasks(server, events, run)
    watched.write_text("changed = True\n")
    server.wait_for_log("Reloading")
    expect_all(events, run)
    assert "abandoned" not in server.log()


@on_hosts("flask-gunicorn-gthread", "flask-gunicorn-gevent", "fastapi-init-gunicorn-uvicorn")
def test_a_deadline_of_the_server_that_is_too_short_is_named(
    start: Callable[..., Server], host: str
) -> None:
    server = start(host, "--graceful-timeout", "5")
    server.wait_for_log("gives a process that ends 5 s, less than drain_timeout, 30 s")
