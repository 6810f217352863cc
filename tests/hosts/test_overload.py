"""What waits is bounded, on every host whose settings can be chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.hosts.client import Client, Response
from tests.hosts.events import EventLog
from tests.hosts.servers import Server, on_hosts

pytestmark = pytest.mark.promise(12)

# On every host the tests of promise 12 in test_promises.py show that the bound holds; who is made
# to wait or refused is a matter of the framework's shim and the gateway.
_CONFIGURABLE = [
    *("flask-gunicorn-gthread", "flask-waitress", "django-gunicorn-sync", "django-uvicorn"),
    *("django-wrapped-uvicorn", "fastapi-init-uvicorn", "starlette-uvicorn"),
    *("flask-mod_wsgi", "fastapi-init-uvicorn-nginx"),
]

_REPEATS = {"flask-waitress", "django-wrapped-uvicorn", "fastapi-init-uvicorn-nginx"}


@on_hosts(*_CONFIGURABLE, repeats=_REPEATS)
def test_reject(start: Callable[..., Server], events: EventLog, run: str, host: str) -> None:
    """With ``on_full="reject"`` the view can answer 503; when there is room it serves again."""
    server = start(host, MAX_WORKERS="1", MAX_PENDING="2", ON_FULL="reject")
    events.hold(run)
    with Client(server.port, reuses=server.host.keeps_alive) as client:
        assert client.request("GET", f"/length?run={run}&plan=sync:1,sync:2").status == 200
        events.wait(run, "start 1")
        assert client.request("GET", f"/length?run={run}&plan=sync:3").status == 503
        events.let_go(run)
        events.wait(run, "end 2")
        # the place is given back a moment after the last task has reported its end
        while client.request("GET", f"/length?run={run}-again&plan=sync:4").status == 503:
            pass
        events.wait(f"{run}-again", "end 4")
    assert "start 3" not in events.whats(run)


@on_hosts(*_CONFIGURABLE, repeats=_REPEATS | {"flask-mod_wsgi", "starlette-uvicorn"})
def test_run(start: Callable[..., Server], events: EventLog, run: str, host: str) -> None:
    """By default what does not fit is held back, bounded, and everything runs in the end."""
    server = start(host, MAX_WORKERS="1", MAX_PENDING="2")
    events.hold(run)
    answers: list[Response] = []

    def request(number: int) -> None:
        with Client(server.port, reuses=server.host.keeps_alive) as client:
            target = f"/length?run={run}&plan=sync:{number}a,sync:{number}b"
            answers.append(client.request("GET", target))

    requests = [threading.Thread(target=request, args=(number,)) for number in range(4)]
    for thread in requests:
        thread.start()
    events.wait_until(lambda: any(w.startswith("start") for w in events.whats(run)), "a start")
    events.let_go(run)
    events.wait(run, *(f"end {number}{letter}" for number in range(4) for letter in "ab"))
    for thread in requests:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4


@on_hosts("django-gunicorn-sync", "flask-gunicorn-gthread")
def test_the_releasing_thread_is_not_kept_for_ever(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """Under WSGI a full backlog holds up the server's thread, as long as tasks finish."""
    server = start(host, MAX_WORKERS="1", MAX_PENDING="1")
    events.hold(run)
    with (
        Client(server.port, reuses=server.host.keeps_alive) as first,
        Client(server.port, reuses=server.host.keeps_alive) as second,
    ):
        first.request("GET", f"/length?run={run}&plan=sync:1")
        events.wait(run, "start 1")
        second.request("GET", f"/length?run={run}-here&plan=async:2,sync:3")
        events.wait(f"{run}-here", "end 2")
        assert second.request("GET", f"/length?run={run}-free").status == 200
        assert "end 1" not in events.whats(run)
        events.let_go(run)
        events.wait(f"{run}-here", "end 3")


@on_hosts("fastapi-init-uvicorn")
def test_a_response_is_held_back_where_the_loop_must_not_work(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """Under ASGI a full backlog holds back the responses that bring more, and only those."""
    server = start(host, MAX_WORKERS="1", MAX_PENDING="1")
    events.hold(run)
    with (
        Client(server.port, reuses=server.host.keeps_alive) as first,
        Client(server.port, reuses=server.host.keeps_alive) as second,
        Client(server.port, reuses=server.host.keeps_alive) as third,
    ):
        first.request("GET", f"/length?run={run}&plan=sync:1")
        events.wait(run, "start 1")
        second.send("GET", f"/length?run={run}-held&plan=sync:2")
        assert third.request("GET", f"/length?run={run}-free").status == 200
        assert "handed over" not in events.whats(f"{run}-held")
        events.let_go(run)
        assert second.read().status == 200
        events.wait(f"{run}-held", "end 2")
