"""Each engine from each framework, on real servers and with the engine's own workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import pytest

from tests.engines.bench import until
from tests.engines.celery_benches import RabbitMQBench, is_there
from tests.engines.hosts_where import Where
from tests.engines.procrastinate_database import database, needs_postgresql
from tests.engines.work import LOG, Line, lines
from tests.hosts.client import Client, Response
from tests.running import ROOT, Running, running

_GUNICORN = [
    *("{bin}/gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket", "--threads", "4"),
    *("--preload", "--worker-class", "gthread"),
]
_UVICORN = ["{bin}/uvicorn", "--port", "{port}"]


class Host(NamedTuple):
    """One framework on one server.

    Attributes:
        command: starts it.
        worker: the module that workers import.
        scope: what a task says of where it ran.
    """

    command: list[str]
    worker: str
    scope: str


HOSTS = {
    "fastapi-uvicorn": Host(
        [*_UVICORN, "tests.engines.hosts_fastapi:app"], "hosts_fastapi", "fastapi"
    ),
    "flask-gthread": Host(
        [*_GUNICORN, "tests.engines.hosts_flask:app"], "hosts_flask", "of the tests"
    ),
    "django-gthread": Host(
        [*_GUNICORN, "tests.engines.hosts_django:wsgi"], "hosts_django_worker", "True de"
    ),
    "django-uvicorn": Host(
        [*_UVICORN, "tests.engines.hosts_django:asgi"], "hosts_django_worker", "True de"
    ),
}
WORKERS = {
    "huey": ["-m", "huey.bin.huey_consumer", "tests.engines.{module}.huey", "-q"],
    "celery": [
        *("-m", "celery", "-A", "tests.engines.{module}:celery_app", "worker", "-c", "1"),
        *("--without-mingle", "--without-gossip", "-n", "{queue}@%h"),
    ],
    "procrastinate": [
        *("-m", "procrastinate", "--app", "tests.engines.{module}.procrastinate_app"),
        *("worker", "--concurrency", "1"),
    ],
    "process": [],
    "tasks": ["-m", "django", "db_worker", "--backend", "database", "--no-startup-delay"],
}
pytestmark = [
    pytest.mark.host,
    needs_postgresql,
    pytest.mark.skipif(not is_there(RabbitMQBench.its_port), reason="no RabbitMQ at port 5672"),
]


def engines_of(host: Host) -> list[str]:
    """Return those that an application has, as far as they are installed."""
    has_tasks = "django" in host.worker and find_spec("django_tasks_db") is not None
    return [name for name in WORKERS if name != "tasks" or has_tasks]


class Site:
    """A server, with a worker of each engine.

    Attributes:
        server: the server.
        host: what it is.
    """

    def __init__(self, directory: Path, server: Running, host: Host) -> None:
        self._directory = directory
        self.server = server
        self.host = host

    def add(self, engine: str, gate: Path, send: str = "after_response") -> Response:
        """Have a view add a task; return its response."""
        query = urlencode({"engine": engine, "gate": gate, "send": send})
        with Client(self.server.port) as client:
            return client.request("GET", f"/add?{query}")

    def lines(self, *kinds: str, id: str = "") -> list[Line]:  # noqa: A002
        """Return what was written of these kinds, of one task or of all."""
        found = lines(self._directory / "work.log")
        return [each for each in found if each.kind in kinds and id in ("", each.id)]

    def told(self, kind: str, before: int) -> list[Line]:
        """Return what was written of a kind beside so many lines, once there is something.

        A response does not wait for hooks in Django under ASGI.
        """
        until(lambda: len(self.lines(kind)) > before, self.said)
        return self.lines(kind)[before:]

    def said(self) -> str:
        """Return what there is to find out why something did not happen."""
        logs = [each.read_text()[-3000:] for each in self._directory.rglob("*.log")]
        return "\n".join(logs)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        nowhere = stack.enter_context(socket.socket())
        nowhere.bind(("127.0.0.1", 0))  # and nobody listens
        made = stack.enter_context(database())
        queue = f"bgadapters-{uuid.uuid4().hex}"
        where = Where(str(tmp_path), queue, made.url, nowhere.getsockname()[1])
        environ = {
            **where.environ(),
            LOG: str(tmp_path / "work.log"),
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }
        host = HOSTS[request.param]
        engines = engines_of(host)
        if "django" in host.worker:
            environ["DJANGO_SETTINGS_MODULE"] = "tests.engines.hosts_django"
            migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
            subprocess.run(migrate, cwd=ROOT, env={**os.environ, **environ}, check=True)
        for engine in engines:
            command = [each.format(module=host.worker, queue=queue) for each in WORKERS[engine]]
            if command:
                stack.enter_context(_worker(tmp_path / f"{engine}.log", command, environ))
        server = stack.enter_context(running(tmp_path, *host.command, **environ))
        yield Site(tmp_path, server, host)
        with RabbitMQBench(tmp_path).connection() as connection:
            connection.default_channel.queue_delete(queue)


@contextmanager
def _worker(log: Path, command: list[str], environ: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("site", HOSTS, indirect=True)
def test_engines_on_a_host(site: Site, tmp_path: Path) -> None:
    ids = {}
    for engine in engines_of(site.host):
        before = len(site.lines("added"))
        assert site.add(engine, tmp_path / f"{engine}.gate").status == 200
        (added,) = site.told("added", before)
        ids[engine] = added.id
    assert site.lines("scope") == []  # each of them waits for its gate, and was answered

    for engine, task_id in ids.items():
        (tmp_path / f"{engine}.gate").touch()
        until(lambda: site.lines("succeeded", id=task_id), site.said)  # noqa: B023  called at once
        (scope,) = site.lines("scope", id=task_id)
        (added,) = site.lines("added", id=task_id)
        assert (scope.what, scope.tenant) == (site.host.scope, "somebody"), engine
        assert scope.pid != added.pid, engine
        if engine != "process":  # of which this process waits
            (sent,) = site.lines("sent", id=task_id)
            assert sent.pid == added.pid, engine
            (succeeded,) = site.lines("succeeded", id=task_id)
            assert succeeded.pid == scope.pid, engine

    for engine in ("huey", "celery", "procrastinate"):
        before = len(site.lines("sent"))
        assert site.add(engine, tmp_path / "huey.gate", "before_response").status == 200
        (sent,) = site.told("sent", before)
        until(lambda: site.lines("scope", id=sent.id), site.said)  # noqa: B023  called at once
        before = len(site.lines("added"))
        answer = site.add(f"{engine}-away", tmp_path / "huey.gate", "before_response")
        assert (answer.status, answer.body[:9]) == (503, b"handled: "), answer
        (added,) = site.told("added", before)
        until(lambda: site.lines("discarded", id=added.id), site.said)  # noqa: B023  called at once
        assert site.lines("sent", id=added.id) == []
