"""Every host: a framework on a server, started as its users start it."""

from __future__ import annotations

import importlib.util
import os
import shutil
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


class Software(NamedTuple):
    """A server, the way its users start it."""

    name: str  # in the names of hosts
    title: str  # in the table of hosts
    needs: str  # the module, or program, without which it cannot be tried
    command: str  # a module to run, or a program; {app} and {port} are filled in
    keeps_alive: bool = True  # whether a connection of HTTP/1.1 serves more than one request
    has_threads: bool = True  # whether threads of the application run
    sends_files: bool = True  # whether a WSGI server has a way of its own to send files
    ends_broken: bool = True  # whether a client is told that a body broke off


class Framework(NamedTuple):
    """A conformance application."""

    name: str
    title: str
    app: str
    is_asgi: bool
    settings: bool = True  # whether BACKGROUND_TASKS_... in the environment reach it


class Host(NamedTuple):
    """A framework on a server."""

    framework: Framework
    server: Software

    @property
    def name(self) -> str:
        return f"{self.framework.name}-{self.server.name}"

    @property
    def title(self) -> str:
        return f"{self.framework.title} on {self.server.title}"

    @property
    def is_asgi(self) -> bool:
        return self.framework.is_asgi

    @property
    def settings(self) -> bool:
        return self.framework.settings

    @property
    def cancels_views(self) -> bool:
        """Whether a view is cancelled when its client leaves, so that there is no response."""
        return self.is_asgi and self.framework.name.startswith("django")

    @property
    def keeps_alive(self) -> bool:
        return self.server.keeps_alive

    @property
    def missing(self) -> str | None:
        """What is not installed, if anything."""
        needs = self.server.needs
        found = importlib.util.find_spec(needs) or shutil.which(needs, path=str(_PROGRAMS))
        return None if found else f"{needs} is not installed"

    def command(self, port: int) -> list[str]:
        """The command line that starts it."""
        app = f"tests.hosts.apps.{self.framework.app}"
        program, *rest = self.server.command.format(app=app, port=port).split()
        if (_PROGRAMS / program).exists() and importlib.util.find_spec(program) is None:
            return [str(_PROGRAMS / program), *rest]
        return [sys.executable, "-X", "dev", "-m", program, *rest]


_PROGRAMS = Path(sys.executable).parent

FLASK = Framework("flask", "Flask", "flask_app:application", False)
DJANGO_WSGI = Framework("django", "Django, WSGI", "django_app:wsgi_application", False)
FASTAPI = Framework("fastapi", "FastAPI", "fastapi_app:application", True, settings=False)
FASTAPI_INIT = Framework(
    "fastapi-init", "FastAPI, `init_app`", "fastapi_app:configured_application", True
)
STARLETTE = Framework("starlette", "Starlette, middleware", "starlette_app:application", True)
DJANGO_ASGI = Framework("django", "Django, ASGI", "django_app:asgi_application", True)
DJANGO_WRAPPED = Framework(
    "django-wrapped",
    "Django, `bgadapters.django.asgi`",
    "django_app:wrapped_asgi_application",
    True,
)

_DEVELOPMENT = "tests.hosts.apps.development"
_GUNICORN = "gunicorn {app} --bind 127.0.0.1:{port} --no-control-socket --worker-class"
_UVICORN = "uvicorn {app} --port {port}"
_UWSGI = (
    f"uwsgi --http-socket 127.0.0.1:{{port}} --module {{app}} --virtualenv {sys.prefix}"
    " --master --need-app --die-on-term"
)

WSGI_SERVERS = (
    Software("wsgiref", "wsgiref", "wsgiref", f"{_DEVELOPMENT} wsgiref {{app}} {{port}}", False),
    Software(
        "werkzeug", "Werkzeug", "werkzeug", f"{_DEVELOPMENT} werkzeug {{app}} {{port}}", False
    ),
    Software("gunicorn-sync", "gunicorn, sync", "gunicorn", f"{_GUNICORN} sync", False),
    Software(
        "gunicorn-gthread", "gunicorn, gthread", "gunicorn", f"{_GUNICORN} gthread --threads 4"
    ),
    Software("gunicorn-gevent", "gunicorn, gevent", "gevent", f"{_GUNICORN} gevent"),
    Software("waitress", "waitress", "waitress", "waitress --listen 127.0.0.1:{port} {app}"),
    Software("cheroot", "cheroot", "cheroot", "cheroot --bind 127.0.0.1:{port} {app}"),
    Software("granian", "granian", "granian", "granian --interface wsgi --port {port} {app}"),
    Software("hypercorn", "hypercorn", "hypercorn", "hypercorn --bind 127.0.0.1:{port} wsgi:{app}"),
    Software("uwsgi", "uWSGI, threads enabled", "uwsgi", f"{_UWSGI} --enable-threads", False),
    Software("uwsgi-nothreads", "uWSGI, without threads", "uwsgi", _UWSGI, False, False),
    Software(
        "a2wsgi-uvicorn",
        "uvicorn, a2wsgi",
        "a2wsgi",
        f"{_DEVELOPMENT} a2wsgi {{app}} {{port}}",
    ),
)
RUNSERVER = Software(
    "runserver", "runserver", "django", f"{_DEVELOPMENT} runserver {{app}} {{port}}"
)

UVICORN = Software("uvicorn", "uvicorn, h11", "uvicorn", f"{_UVICORN} --http h11 --loop asyncio")
UVICORN_HTTPTOOLS = Software(
    "uvicorn-httptools",
    "uvicorn, httptools",
    "httptools",
    f"{_UVICORN} --http httptools --loop asyncio",
)
UVICORN_UVLOOP = Software(
    "uvicorn-uvloop", "uvicorn, uvloop", "uvloop", f"{_UVICORN} --http httptools --loop uvloop"
)
GRANIAN = Software(
    "granian-asgi", "granian", "granian", "granian --interface asgi --port {port} {app}"
)
DAPHNE = Software("daphne", "daphne", "daphne", "daphne -b 127.0.0.1 -p {port} {app}")
ASGI_SERVERS = (
    UVICORN,
    Software(
        "gunicorn-uvicorn",
        "gunicorn, uvicorn worker",
        "gunicorn",
        f"{_GUNICORN} uvicorn.workers.UvicornWorker",
    ),
    Software("gunicorn-asgi", "gunicorn, asgi", "gunicorn", f"{_GUNICORN} asgi"),
    Software("hypercorn-asgi", "hypercorn", "hypercorn", "hypercorn --bind 127.0.0.1:{port} {app}"),
    GRANIAN,
    DAPHNE,
)

HOSTS = {
    host.name: host
    for host in (
        *(Host(framework, server) for server in WSGI_SERVERS for framework in (FLASK, DJANGO_WSGI)),
        Host(DJANGO_WSGI, RUNSERVER),
        *(
            Host(framework, server)
            for server in ASGI_SERVERS
            for framework in (FASTAPI_INIT, DJANGO_ASGI, DJANGO_WRAPPED)
        ),
        *(Host(FASTAPI, server) for server in (UVICORN, GRANIAN, DAPHNE)),
        Host(STARLETTE, UVICORN),
        *(
            Host(framework, server)
            for server in (UVICORN_HTTPTOOLS, UVICORN_UVLOOP)
            for framework in (FASTAPI_INIT, DJANGO_WRAPPED)
        ),
    )
}

QUICK = {"fastapi-uvicorn", "django-uvicorn", "flask-gunicorn-gthread", "django-waitress"}


def marks(name: str) -> list[pytest.MarkDecorator]:
    """The marks of tests that run on this host."""
    found = [pytest.mark.host]
    if name in QUICK:
        found.append(pytest.mark.quick)
    if missing := HOSTS[name].missing:
        found.append(pytest.mark.skip(reason=missing))
    return found


class Server:
    """A running server, in a process group of its own."""

    def __init__(self, host: Host, environ: Mapping[str, str], *options: str) -> None:
        self.host = host
        self.threads = ""  # those there were before the first task
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="bgadapters-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*host.command(self.port), *options],
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
