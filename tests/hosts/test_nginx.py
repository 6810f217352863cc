"""What nginx changes for the server behind it: it takes responses early, and may come and go."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable

import pytest

from tests.hosts import work
from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.nginx import Nginx
from tests.hosts.servers import HOSTS, on_hosts

_PLAN = "plan=sync:1,async:2,sync:3"


def every_nginx(framework: str = "") -> pytest.MarkDecorator:
    return on_hosts(*(name for name in HOSTS if "nginx" in name and name.startswith(framework)))


def slow_client(nginx: Nginx) -> socket.socket:
    """A connection that takes little at a time, so that a large body does not fit into it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(15)
    client.connect(("127.0.0.1", nginx.port))
    return client


def ask(client: socket.socket, target: str) -> None:
    head = "Host: localhost\r\nConnection: close\r\n"
    client.sendall(f"GET {target} HTTP/1.1\r\n{head}\r\n".encode())


def body(client: socket.socket) -> bytes:
    with client.makefile("rb") as received:
        return received.read().partition(b"\r\n\r\n")[2]


@every_nginx("flask")  # uvicorn keeps a body in its own memory, and waits for nobody
def test_a_slow_client_keeps_neither_the_server_nor_its_tasks_waiting(
    start: Callable[..., Nginx], events: EventLog, run: str, host: str
) -> None:
    """nginx takes the whole response from the server, and that is when tasks start."""
    nginx = start(host)
    with slow_client(nginx) as client:
        ask(client, f"/huge?run={run}&{_PLAN}")  # more than the buffers of sockets take
        events.wait(run, "handed over", "end 3")  # the client has read nothing
        assert body(client) == work.LARGE * 5
    assert not re.findall(r"\[(?:crit|alert|emerg)\].*", nginx.log())


@every_nginx()
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT], ids=["reload", "quit"])
def test_nginx_is_reloaded_or_told_to_quit(
    start: Callable[..., Nginx], events: EventLog, run: str, host: str, number: signal.Signals
) -> None:
    """No response is cut off and no task lost: the server behind nginx hears nothing of it."""
    nginx = start(host)
    events.hold(run)
    with slow_client(nginx) as client:
        ask(client, f"/large?run={run}&{_PLAN}")
        events.wait(run, "handed over", "start 1")
        nginx.signal(number)
        nginx.wait_for_log("gracefully shutting down")
        assert body(client) == work.LARGE
    if number is signal.SIGQUIT:
        assert nginx.wait_for_nginx() == 0
    else:
        with Client(nginx.port) as client:
            assert client.request("GET", f"/length?run={run}-next").body == work.BODY
    events.let_go(run)
    events.wait(run, "end 3")


@every_nginx()
def test_nginx_is_ended_at_once(
    start: Callable[..., Nginx], events: EventLog, run: str, host: str
) -> None:
    """It hangs up on everybody, and to the server that is a client that has left."""
    nginx = start(host)
    events.hold(run)
    with Client(nginx.port) as client:
        client.request("GET", f"/length?run={run}&{_PLAN}")
        events.wait(run, "start 1")
        nginx.signal(signal.SIGTERM)
        nginx.wait_for_nginx()
    events.let_go(run)
    events.wait(run, "end 3")


@every_nginx()
def test_what_nginx_speaks_to_the_server(
    start: Callable[..., Nginx], events: EventLog, run: str, host: str
) -> None:
    """The hosts are two kinds: HTTP/1.0 with a connection for each request, HTTP/1.1 with one."""
    nginx = start(host)
    runs = [f"{run}-{number}" for number in range(3)]
    with Client(nginx.port) as client:
        for each in runs:
            client.request("GET", f"/length?run={each}")
            events.wait(each, "handed over")
    happened = [event for each in runs for event in events.of(each)]
    seen = [event.data.split() for event in happened if event.what == "handed over"]
    keeps_alive = host.endswith("keepalive")
    assert {protocol for protocol, _ in seen} == {"HTTP/1.1" if keeps_alive else "HTTP/1.0"}
    assert len({port for _, port in seen}) == (1 if keeps_alive else 3)
