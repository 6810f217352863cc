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
from pkgutil import resolve_name
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
    closes_after_errors: bool = False  # whether a connection ends with a status of 500
    hangs_up_on_head: bool = False  # whether it leaves an answer to HEAD at the end of its head
    server: str = f"{__name__}:Server"  # the class that starts it


def _uvicorn(app: str, lifespan: str = "auto") -> tuple[str, ...]:
    return ("uvicorn", f"{_APPS}.{app}", "--port", "{port}", "--lifespan", lifespan)


def _gunicorn(app: str, *worker: str) -> tuple[str, ...]:
    server = ("gunicorn", f"{_APPS}.{app}", "--bind", "127.0.0.1:{port}", "--no-control-socket")
    return (*server, "--worker-class", *worker)


_THREADS = ("gthread", "--threads", "4")
_FLASK = _gunicorn("flask_app:application", *_THREADS)
_FASTAPI = _uvicorn("fastapi_app:configured_application")


def _mod_wsgi(name: str, app: str) -> Host:
    """Apache, whose configuration names the application; it reads no command line."""
    command = (f"{_APPS}.{app}",)
    return Host(name, command, False, closes_after_errors=True, server="tests.hosts.apache:Apache")


def _nginx(name: str, upstream: tuple[str, ...], is_asgi: bool, protocol: str) -> Host:
    """A server behind nginx, which talks HTTP/1.0 to it or keeps its connections."""
    command = (protocol, *upstream)
    hangs_up = protocol == "http/1.0"
    server = "tests.hosts.nginx:Nginx"
    return Host(name, command, is_asgi, hangs_up_on_head=hangs_up, server=server)


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
        _mod_wsgi("flask-mod_wsgi", "flask_app:application"),
        _mod_wsgi("django-mod_wsgi", "django_app:wsgi_application"),
        _nginx("flask-gunicorn-gthread-nginx", _FLASK, False, "http/1.0"),
        _nginx("flask-gunicorn-gthread-nginx-keepalive", _FLASK, False, "keepalive"),
        _nginx("fastapi-init-uvicorn-nginx", _FASTAPI, True, "http/1.0"),
        _nginx("fastapi-init-uvicorn-nginx-keepalive", _FASTAPI, True, "keepalive"),
    )
}


_QUICK = {"fastapi-uvicorn", "django-uvicorn", "flask-gunicorn-gthread"}


def marks(host: str) -> list[pytest.MarkDecorator]:
    """The marks of tests that run on this host."""
    return [pytest.mark.host, pytest.mark.quick] if host in _QUICK else [pytest.mark.host]


def start_server(host: Host, environ: Mapping[str, str]) -> Server:
    """Start a host; skip the test, with the reason, where its server is not installed."""
    server: Server = resolve_name(host.server)(host, environ)
    return server


class Server:
    """A running server, in a process group of its own."""

    def __init__(self, host: Host, environ: Mapping[str, str]) -> None:
        self.host = host
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="bgadapters-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            self._command(environ),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait_until_up()

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        command = [part.format(port=self.port) for part in self.host.command]
        return [sys.executable, "-X", "dev", "-m", *command]

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
