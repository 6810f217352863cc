"""What ASGI servers do with files, sockets and lifespans, over real connections."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import (
    GRANIAN,
    UVICORN,
    Framework,
    Host,
    Server,
    Software,
    free_port,
    start_server,
)

pytestmark = pytest.mark.host


def serving(app: str, software: Software, events: EventLog) -> Server:
    framework = Framework("corners", "Corners", f"corners_app:{app}", True)
    return start_server(Host(framework, software), events.environ)


@pytest.fixture(params=["plain", "configured"])
def granian(request: pytest.FixtureRequest, events: EventLog) -> Iterator[Server]:
    """granian, which opens a file when the call has returned."""
    pytest.importorskip("granian")
    server = serving(request.param, GRANIAN, events)
    yield server
    server.stop()


@pytest.mark.promise(2)
def test_a_file_that_a_task_removes_arrives_whole(
    granian: Server, events: EventLog, run: str
) -> None:
    paths = ["/file", "/file-below"] if "configured" in granian.host.app else ["/file"]
    with Client(granian.port) as client:
        for number in range(20):
            name = f"{run}-{number}"
            size = 5 if number % 2 else 3_000_000
            target = f"{paths[number % len(paths)]}?run={name}&size={size}"
            response = client.request("GET", target)
            assert (response.status, len(response.body)) == (200, size)
            events.wait(name, "removed")


def test_a_client_of_a_websocket_that_leaves_discards_nothing(events: EventLog, run: str) -> None:
    server = serving("configured", UVICORN, events)
    try:
        with Client(server.port) as client:
            key = base64.b64encode(os.urandom(16)).decode()
            upgrade = (
                "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            )
            client.send("GET", f"/socket/{run}", headers=upgrade)
            client.read_some()
            assert client._socket is not None
            for text in (b"one", b"two"):
                client._socket.sendall(_frame(1, text))
            events.wait(run, "one", "two")  # while the connection lasts
            client._socket.sendall(_frame(1, b"last") + _frame(8, b""))
            events.wait(run, "last")
        assert "discarded" not in server.log()
    finally:
        server.stop()


def _frame(opcode: int, payload: bytes) -> bytes:
    """A frame of RFC 6455, masked with zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def test_a_lifespan_that_fails_ends_a_server_that_needs_it() -> None:
    target = "tests.hosts.apps.corners_app:broken"
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", target, "--lifespan", "on", "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert "KeyError: 'path'" in done.stderr
