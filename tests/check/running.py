"""Servers that run while they are checked, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bgadapters.core.probe import TOKEN
from tests.check.conftest import SECRET
from tests.hosts.servers import free_port

ROOT = Path(__file__).parents[2]
_PATIENCE = 30.0


@contextmanager
def running(tmp_path: Path, *command: str, token: str | None = SECRET) -> Iterator[str]:
    """Start a server, ``{port}`` and ``{python}`` filled in; give its URL, and end it."""
    port = free_port()
    environ = {**os.environ, TOKEN: token or "", "PYTHONWARNINGS": "ignore"}
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [part.format(port=port, bin=Path(sys.executable).parent) for part in command],
            cwd=ROOT,
            env=environ,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """A server has no other way to tell that it answers: gunicorn listens before its workers do."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.settimeout(_PATIENCE)
            connection.sendall(b"GET /is-it-up HTTP/1.0\r\n\r\n")
            if connection.recv(1):
                return
        given_up = process.poll() is not None or time.monotonic() > deadline
        assert not given_up, f"not started:\n{log.read_text()}"
        time.sleep(0.02)
