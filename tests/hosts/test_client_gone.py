"""A client that leaves once a response was produced cancels nothing."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.hosts.events import EventLog
from tests.hosts.servers import Server

_RESET = struct.pack("ii", 1, 0)  # close() then sends RST instead of FIN


def connect(server: Server) -> socket.socket:
    """A connection that takes little at a time, so that a large body does not fit into it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(15)
    client.connect(("127.0.0.1", server.port))
    return client


def leave(client: socket.socket, how: str) -> None:
    if how == "RST":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("kind", ["large", "large-stream", "async/large-stream"])
def test_in_the_middle_of_the_body(
    server: Server, events: EventLog, run: str, kind: str, how: str
) -> None:
    """The server cannot send the rest; the tasks run all the same."""
    client = connect(server)
    request = (
        f"GET /{kind}?run={run}&plan=sync:1,async:2,sync:3 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    client.sendall(request.encode())
    assert client.recv(100)
    leave(client, how)
    events.wait(run, "end 3")


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_while_a_task_runs(server: Server, events: EventLog, run: str, how: str) -> None:
    """The response was read; what runs and what waits is not cancelled."""
    events.hold(run)
    client = connect(server)
    request = f"GET /length?run={run}&plan=async:1,sync:2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client.sendall(request.encode())
    events.wait(run, "start 1")
    leave(client, how)
    with connect(server) as other:  # the server has had the time to notice
        other.sendall(f"GET /length?run={run}-next HTTP/1.0\r\n\r\n".encode())
        assert other.recv(100)
    events.let_go(run)
    events.wait(run, "end 2")
