"""Every host: a framework on a server, started as its users start it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple

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
    hangs_up_on_head: bool = False  # whether it leaves an answer to HEAD at the end of its head
    fifo: str = ""  # where it takes the order to end
    starter: str = f"{__name__}:Server"  # the class that starts it
    upstream: Any = None  # of a proxy: the software behind it


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
    def app(self) -> str:
        return f"tests.hosts.apps.{self.framework.app}"

    @property
    def missing(self) -> str | None:
        """What is not installed, if anything."""
        needs = self.server.needs
        if not needs:  # told when it is started
            return None
        found = importlib.util.find_spec(needs) or shutil.which(needs, path=_PATH)
        return None if found else f"{needs} is not installed"

    def command(self, port: int) -> list[str]:
        """The command line that starts it."""
        program, *rest = self.server.command.format(app=self.app, port=port).split()
        path = shutil.which(program, path=_PATH)
        if path is not None and importlib.util.find_spec(program) is None:
            return [path, *rest]
        # Development mode makes starting and every request slower: a few hosts stand for all.
        mode = ["-X", "dev"] if self.name in QUICK else []
        return [sys.executable, *mode, "-m", program, *rest]


_PATH = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
SITE_PACKAGES = sysconfig.get_path("purelib")

FLASK = Framework("flask", "Flask", "flask_app:application", False)
DJANGO_WSGI = Framework("django", "Django, WSGI", "django_app:wsgi_application", False)
FASTAPI = Framework("fastapi", "FastAPI", "fastapi_app:application", True, settings=False)
FASTAPI_INIT = Framework(
    "fastapi-init", "FastAPI, `init_app`", "fastapi_app:configured_application", True
)
STARLETTE = Framework("starlette", "Starlette, middleware", "starlette_app:application", True)
DJANGO_ALONE = Framework(
    "django-alone", "Django, WSGI, the decorator alone", "django_alone:wsgi_application", False
)
DJANGO_ASGI = Framework("django", "Django, ASGI", "django_app:asgi_application", True)
DJANGO_ASGI_ALONE = Framework(
    "django-alone", "Django, ASGI, the decorator alone", "django_alone:asgi_application", True
)
DJANGO_WRAPPED = Framework(
    "django-wrapped",
    "Django, `bgadapters.django.asgi`",
    "django_wrapped:asgi_application",
    True,
)

_DEVELOPMENT = "tests.hosts.apps.development"
_GUNICORN = "gunicorn {app} --bind 127.0.0.1:{port} --no-control-socket --worker-class"
_UVICORN = "uvicorn {app} --port {port}"
_UWSGI_OPTIONS = "--http-socket 127.0.0.1:{port} --module {app} --master --need-app --die-on-term"
_FIFO = f"{tempfile.gettempdir()}/bgadapters-{{port}}.fifo"
_UWSGI = f"uwsgi {_UWSGI_OPTIONS} --virtualenv {sys.prefix} --master-fifo {_FIFO}"

WSGI_SERVERS = (
    Software(
        "wsgiref",
        "wsgiref",
        "wsgiref",
        f"{_DEVELOPMENT} wsgiref {{app}} {{port}}",
        keeps_alive=False,
    ),
    Software(
        "werkzeug",
        "Werkzeug",
        "werkzeug",
        f"{_DEVELOPMENT} werkzeug {{app}} {{port}}",
        keeps_alive=False,
        sends_files=False,
    ),
    Software("gunicorn-sync", "gunicorn, sync", "gunicorn", f"{_GUNICORN} sync", keeps_alive=False),
    Software(
        "gunicorn-gthread", "gunicorn, gthread", "gunicorn", f"{_GUNICORN} gthread --threads 4"
    ),
    Software("gunicorn-gevent", "gunicorn, gevent", "gevent", f"{_GUNICORN} gevent"),
    Software("waitress", "waitress", "waitress", "waitress --listen 127.0.0.1:{port} {app}"),
    Software(
        "cheroot",
        "cheroot",
        "cheroot",
        "cheroot --bind 127.0.0.1:{port} {app}",
        sends_files=False,
    ),
    Software(
        "granian",
        "granian",
        "granian",
        "granian --interface wsgi --port {port} {app}",
        sends_files=False,
    ),
    Software(
        "hypercorn",
        "hypercorn",
        "hypercorn",
        "hypercorn --bind 127.0.0.1:{port} wsgi:{app}",
        sends_files=False,
    ),
    Software(
        "uwsgi",
        "uWSGI, threads enabled",
        "uwsgi",
        f"{_UWSGI} --enable-threads",
        keeps_alive=False,
        fifo=_FIFO,
    ),
    Software(
        "uwsgi-nothreads",
        "uWSGI, without threads",
        "uwsgi_python3",  # Debian's; later versions always have threads
        f"uwsgi_python3 {_UWSGI_OPTIONS} --pythonpath {SITE_PACKAGES}",
        keeps_alive=False,
        has_threads=False,
    ),
    Software(
        "a2wsgi-uvicorn",
        "uvicorn, a2wsgi",
        "a2wsgi",
        f"{_DEVELOPMENT} a2wsgi {{app}} {{port}}",
        sends_files=False,
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
    "granian-asgi",
    "granian",
    "granian",
    "granian --interface asgi --port {port} {app}",
    hangs_up_on_head=True,
)
DAPHNE = Software(
    "daphne", "daphne", "daphne", "daphne -b 127.0.0.1 -p {port} {app}", ends_broken=False
)
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


def _nginx(name: str, title: str, upstream: Software, protocol: str) -> Software:
    """A server behind nginx, which talks HTTP/1.0 to it or keeps its connections."""
    return Software(
        name,
        title,
        "",
        protocol,
        hangs_up_on_head=protocol == "http/1.0",
        starter="tests.hosts.nginx:Nginx",
        upstream=upstream,
    )


# Apache's configuration names the application; it reads no command line.
MOD_WSGI = Software("mod_wsgi", "Apache, mod_wsgi", "", "", starter="tests.hosts.apache:Apache")
GTHREAD = next(server for server in WSGI_SERVERS if server.name == "gunicorn-gthread")
PROXIED = (
    (FLASK, "gunicorn-gthread-nginx", "gunicorn, gthread, behind nginx", GTHREAD),
    (FASTAPI_INIT, "uvicorn-nginx", "uvicorn behind nginx", UVICORN),
)

_KILLED = {"wsgiref", "werkzeug", "waitress", "cheroot"}
"""The servers that leave SIGTERM to kill the process, where it matters how Django is installed."""

HOSTS = {
    host.name: host
    for host in (
        *(
            Host(framework, server)
            for server in WSGI_SERVERS
            for framework in (FLASK, DJANGO_WSGI)
            if server.has_threads or framework is FLASK
        ),
        Host(DJANGO_WSGI, RUNSERVER),
        *(
            Host(framework, server)
            for server in ASGI_SERVERS
            for framework in (FASTAPI_INIT, DJANGO_ASGI, DJANGO_WRAPPED)
        ),
        *(Host(DJANGO_ALONE, server) for server in WSGI_SERVERS if server.name in _KILLED),
        Host(DJANGO_ASGI_ALONE, UVICORN),
        *(Host(FASTAPI, server) for server in (UVICORN, GRANIAN, DAPHNE)),
        Host(STARLETTE, UVICORN),
        *(
            Host(framework, server)
            for server in (UVICORN_HTTPTOOLS, UVICORN_UVLOOP)
            for framework in (FASTAPI_INIT, DJANGO_WRAPPED)
        ),
        *(Host(framework, MOD_WSGI) for framework in (FLASK, DJANGO_WSGI)),
        *(
            Host(framework, _nginx(f"{name}{suffix}", f"{title}{words}", upstream, protocol))
            for framework, name, title, upstream in PROXIED
            for suffix, words, protocol in (
                ("", "", "http/1.0"),
                ("-keepalive", ", kept connections", "keepalive"),
            )
        ),
    )
}

QUICK = {"fastapi-uvicorn", "django-uvicorn", "flask-gunicorn-gthread", "django-waitress"}
REPEATS = {
    *("fastapi-granian-asgi", "fastapi-daphne", "django-wrapped-gunicorn-uvicorn"),
    *("django-wrapped-gunicorn-asgi", "django-wrapped-hypercorn-asgi"),
    *("django-wrapped-uvicorn-httptools", "django-wrapped-uvicorn-uvloop"),
    *("django-wrapped-granian-asgi", "django-wrapped-daphne", "django-a2wsgi-uvicorn"),
    *("django-wsgiref", "django-werkzeug", "django-cheroot"),
}
"""Whose servers and whose frameworks other hosts have too; `make hosts` tries them as well."""

LIKE_OTHERS = {
    # every WSGI server has Flask on it; Django is on threads, greenlets and runserver
    *("django-gunicorn-sync", "django-granian", "django-hypercorn", "django-uwsgi"),
    "django-mod_wsgi",
    # to Django without a lifespan it is uvicorn, and one of those that cancel no view's call
    *("django-gunicorn-uvicorn", "django-hypercorn-asgi"),
    *("django-alone-werkzeug", "django-alone-cheroot"),  # a signal finds them as it finds waitress
    *("flask-gunicorn-gthread-nginx-keepalive", "fastapi-init-uvicorn-nginx"),  # one of each
}
"""Where the promises are tried in `make hosts` alone. Tests that name such a host stay."""


def marks(name: str, repeats: bool = False) -> list[pytest.MarkDecorator]:
    """The marks of tests that run on this host; whether they repeat what others have tried."""
    found = [pytest.mark.host]
    if name in QUICK:
        found.append(pytest.mark.quick)
    if repeats or name in REPEATS:
        found.append(pytest.mark.repeats)
    if missing := HOSTS[name].missing:
        found.append(pytest.mark.skip(reason=missing))
    return found


def on_hosts(*names: str, repeats: Collection[str] = ()) -> pytest.MarkDecorator:
    """Run a test that takes ``host`` on each of these; some only in `make hosts`."""
    hosts = [pytest.param(name, marks=marks(name, name in repeats)) for name in names]
    return pytest.mark.parametrize("host", hosts)


def environ_of(settings: Mapping[str, str]) -> dict[str, str]:
    """The variables from which the applications take their settings."""
    return {f"BACKGROUND_TASKS_{name}": value for name, value in settings.items()}


@contextmanager
def stopping() -> Iterator[list[Server]]:
    """A list of the servers that a test starts: they are stopped when the block ends."""
    started: list[Server] = []
    try:
        yield started
    finally:
        for server in started:
            print(server.log())  # pytest shows it where the test has failed
            server.stop()


def start_server(host: Host, environ: Mapping[str, str], *options: str) -> Server:
    """Start a host; skip the test, with the reason, where its server is not installed."""
    server: Server = resolve_name(host.server.starter)(host, environ, *options)
    return server


class Server:
    """A running server, in a process group of its own."""

    def __init__(self, host: Host, environ: Mapping[str, str], *options: str) -> None:
        self.host = host
        self.threads = ""  # those there were before the first task
        self.was_ended = False  # by a test
        self.port = free_port()
        fifo = host.server.fifo.format(port=self.port)
        self._fifo = Path(fifo) if fifo else None
        self._log = tempfile.NamedTemporaryFile("w+b", prefix="bgadapters-", suffix=".log")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*self._command(environ), *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._wait_until_up()

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        return self.host.command(self.port)

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

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

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
        """End it as a deploy should: with SIGTERM, or as the notes on its server say."""
        self.was_ended = True
        if self._fifo is None:
            self.signal(signal.SIGTERM)
        else:
            self._fifo.write_text("q")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's own process."""
        self._process.send_signal(number)

    def wait_until_deaf(self) -> None:
        """Wait until a new request is no longer answered, or no longer by the application."""
        deadline = time.monotonic() + 20
        while self._answers():
            assert time.monotonic() < deadline, f"it still serves:\n{self.log()}"

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.3) as probe:
            probe.sendall(b"GET /length?run=probe HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(100)
        return False

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
        if self._fifo is not None:
            self._fifo.unlink(missing_ok=True)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
