"""Servers that run while a test looks at them, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.servers import free_port

ROOT = Path(__file__).parents[1]
_PATIENCE = 30.0


@dataclass
class Running:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(directory: Path, *command: str, **environ: str) -> Iterator[Running]:
    """Start a server and end it; it logs to ``server.log`` in the directory.

    Args:
        directory: where its log is written.
        command: ``{port}`` and ``{bin}``, the directory of this Python, are filled in.
        environ: variables beside those of this process.
    """
    port = free_port()
    log = directory / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [part.format(port=port, bin=Path(sys.executable).parent) for part in command],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(port, process, log)
    try:
        _wait_until_up(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_up(server: Running) -> None:
    """A server has no other way to tell that it answers: gunicorn listens before its workers do."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1) as client:
            client.settimeout(_PATIENCE)
            client.sendall(b"GET /is-it-up HTTP/1.0\r\n\r\n")
            if client.recv(1):
                return
        given_up = server.process.poll() is not None or time.monotonic() > deadline
        assert not given_up, f"not started:\n{server.log.read_text()}"
        time.sleep(0.02)
