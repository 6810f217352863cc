"""A server in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PATIENCE = 30.0  # seconds that a server has to start, and to stop


class ServerError(Exception):
    """A server did not start."""


@contextmanager
def running(command: Sequence[str], port: int | None = None) -> Iterator[int]:
    """Run ``python -m command`` until the block ends; yields the port that it listens at.

    Args:
        command: what to run, ``{port}`` standing for the port. Without one, it is ready at once.
        port: where it listens. Default: one that is free.
    """
    port = port or free_port()
    argv = [sys.executable, "-m", *(part.format(port=port) for part in command)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if any("{port}" in part for part in command):
                _wait_until_it_listens(process, port)
            yield port
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-4000:])
            raise
        finally:
            _stop(process)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise ServerError(f"{process.args!r} does not listen at {port}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server, and with it every process that it has started."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
