"""Every host: a framework on a server, started as its users start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
_APPS = "tests.hosts.apps"


class Host(NamedTuple):
    """A framework on a server."""

    name: str
    command: tuple[str, ...]  # after "python -m"; {port} is filled in
    is_asgi: bool
    keeps_alive: bool = True
    settings: bool = True  # whether BACKGROUND_TASKS_... in the environment reach it


def _uvicorn(app: str, lifespan: str = "auto") -> tuple[str, ...]:
    return ("uvicorn", f"{_APPS}.{app}", "--port", "{port}", "--lifespan", lifespan)


def _gunicorn(app: str, *worker: str) -> tuple[str, ...]:
    server = ("gunicorn", f"{_APPS}.{app}", "--bind", "127.0.0.1:{port}", "--no-control-socket")
    return (*server, "--worker-class", *worker)


_THREADS = ("gthread", "--threads", "4")

HOSTS = {
    host.name: host
    for host in (
        Host("fastapi-uvicorn", _uvicorn("fastapi_app:application"), True, settings=False),
        Host("fastapi-init-uvicorn", _uvicorn("fastapi_app:configured_application"), True),
        Host("starlette-uvicorn", _uvicorn("starlette_app:application"), True, settings=False),
        Host("django-uvicorn", _uvicorn("django_app:asgi_application"), True),
        Host("django-wrapped-uvicorn", _uvicorn("django_app:wrapped_asgi_application"), True),
        Host(
            "django-gunicorn-sync", _gunicorn("django_app:wsgi_application", "sync"), False, False
        ),
        Host("django-gunicorn-gthread", _gunicorn("django_app:wsgi_application", *_THREADS), False),
        Host("flask-gunicorn-sync", _gunicorn("flask_app:application", "sync"), False, False),
        Host("flask-gunicorn-gthread", _gunicorn("flask_app:application", *_THREADS), False),
    )
}


_QUICK = {"fastapi-uvicorn", "django-uvicorn", "flask-gunicorn-gthread"}


def marks(host: str) -> list[pytest.MarkDecorator]:
    """The marks of tests that run on this host."""
    return [pytest.mark.host, pytest.mark.quick] if host in _QUICK else [pytest.mark.host]


class Server:
    """A running server, in a process group of its own."""

    def __init__(self, host: Host, environ: Mapping[str, str]) -> None:
        self.host = host
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="bgadapters-", suffix=".log")  # noqa: SIM115
        command = [part.format(port=self.port) for part in host.command]
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                # a server has no other way to tell that it listens
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{self.host.name} did not start:\n{self.log()}") from None
                time.sleep(0.02)

    def log(self) -> str:
        """What the server has printed so far."""
        return Path(self._log.name).read_text()

    def wait_for_log(self, text: str) -> None:
        """Wait until the server has printed this."""
        deadline = time.monotonic() + 20
        while text not in self.log():  # a file has no other way to tell that it has grown
            assert time.monotonic() < deadline, f"no {text!r} in\n{self.log()}"
            time.sleep(0.02)

    def terminate(self) -> None:
        """Send SIGTERM, as a deploy does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 30) -> int:
        """Wait until the server has ended."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """End it by all means, with whatever it has started."""
        if self._process.poll() is None:
            self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
