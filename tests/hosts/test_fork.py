"""Forks: a child runs its own tasks, and its parent's queue is not run twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.hosts import forking
from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.journal import RUN, Journal
from tests.hosts.servers import HOSTS, ROOT, Server, on_hosts

# From Python 3.12 on: the process has threads, and that is what is tried here.
_WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

# Not gunicorn's gevent worker, which patches Python only after it has forked.
_PRELOADED = {
    "flask-gunicorn-sync": "preload:flask_application",
    "flask-gunicorn-gthread": "preload:flask_application",
    "fastapi-init-gunicorn-uvicorn": "preload:fastapi_application",
    "fastapi-init-gunicorn-asgi": "preload:fastapi_application",
    "flask-uwsgi": "preload:flask_application",
}


@on_hosts(*_PRELOADED)
def test_preload(events: EventLog, run: str, journal: Journal, host: str) -> None:
    """Tasks run before the fork, during it and after it: each of them once.

    uWSGI forks in C, so that no hook of Python's is called.
    """
    framework = HOSTS[host].framework._replace(app=_PRELOADED[host])
    events.hold(run)
    environ = {**events.environ, **journal.environ, RUN: run}
    options = ["--workers=2"] if "uwsgi" in host else ["--preload", "--workers=2"]
    server = Server(HOSTS[host]._replace(framework=framework), environ, *options)
    try:
        names = [str(number) for number in range(20)]
        for name in names:  # each on a connection of its own, so that both workers serve
            with Client(server.port) as client:
                kind = "async" if int(name) % 2 else "sync"
                body = client.request("GET", f"/task?name={name}&kind={kind}").body
                assert body == name.encode()
        events.let_go(run)
        _wait_until_all_serve(server.port, 2)
        server.terminate()
        server.wait(60)  # longer than gunicorn waits for a worker that missed its signal
    finally:
        events.let_go(run)
        server.stop()
    before = [f"before, {each}" for each in ("default", "default, async", "flask", "flask, async")]
    expected = [*before, "held", "waiting, async", "waiting", *names]
    assert journal.finished() == dict.fromkeys(expected, 1)


def _wait_until_all_serve(port: int, workers: int) -> None:
    """Wait until each worker has answered, or had the time to begin.

    One of gunicorn's that is told to end before it has begun misses that, and is killed later.
    """
    deadline = time.monotonic() + 5
    answered: set[bytes] = set()
    while len(answered) < workers and time.monotonic() < deadline:
        with Client(port) as client:
            answered.add(client.request("GET", "/pid").body)


@pytest.mark.parametrize("method", ["os.fork", "fork", "spawn", "forkserver"])
def test_a_child_of_a_process_with_workers(
    events: EventLog, run: str, journal: Journal, method: str
) -> None:
    """It ends when its tasks have, however it was made; what its parent had is the parent's."""
    events.hold(run)
    process = subprocess.Popen(
        [sys.executable, *_WARNINGS, "-m", "tests.hosts.forking", method],
        cwd=ROOT,
        env={**os.environ, **events.environ, **journal.environ, RUN: run},
    )
    try:
        events.wait_until(
            lambda: any(what.startswith("child ended") for what in events.whats(run)),
            "the end of the child",
        )
        assert events.whats(run)[-1] == "child ended with 0"
        expected = {*forking.CHILDS, "before", "before, async"}
        assert expected <= journal.finished().keys(), "the child left tasks behind"
        assert "held" not in journal.finished()
        events.let_go(run)
        assert process.wait(20) == 0
    finally:
        events.let_go(run)
        process.kill()
        process.wait()
    assert journal.finished() == dict.fromkeys((*forking.PARENTS, *forking.CHILDS), 1)
