"""Load and faults together: as many tasks finish as responses were complete, none twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hosts.events import EventLog
from tests.hosts.journal import Journal
from tests.hosts.load import Clients, PlainServer, host_under_load, wait_for_workers, workers
from tests.hosts.servers import Server, marks

Start = Callable[..., Server]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def start(events: EventLog, journal: Journal) -> Iterator[Start]:
    """Start a server with the application for load: ``start(host_name, *options)``."""
    started: list[Server] = []

    def starter(host: str, *options: str, **settings: str) -> Server:
        environ = {f"BACKGROUND_TASKS_{name}": value for name, value in settings.items()}
        environ |= {**events.environ, **journal.environ}
        started.append(PlainServer(host_under_load(host), environ, *options))
        return started[-1]

    yield starter
    for server in started:
        server.stop()


def tell(server: Server, signum: int) -> None:
    os.kill(server._process.pid, signum)


def end_while_tasks_run(server: Server, clients: Clients, events: EventLog, run: str) -> None:
    """End a server while it has tasks that are held, and wait until it has ended."""
    events.hold(run)
    clients.request_held(run, 12)
    events.wait_until(lambda: len(events.whats(run)) >= 2, f"a start of {run}")
    server.terminate()
    events.let_go(run)
    server.wait(40)


class Rolling(NamedTuple):
    """A server whose two workers are replaced by the number of requests and by SIGHUP."""

    host: str
    options: str
    reloads: int = 2
    is_slow: bool = True


_GUNICORN = "--workers 2 --max-requests {} --max-requests-jitter 50"
_GRANIAN = "--workers 2 --respawn-interval 0.5 --no-access-log"
_HYPERCORN = "--workers 2 --max-requests 1000 --max-requests-jitter 100"
ROLLING = (
    Rolling("flask-gunicorn-gthread", f"{_GUNICORN.format(150)} --keep-alive 1", is_slow=False),
    Rolling("flask-gunicorn-sync", _GUNICORN.format(150)),
    Rolling("flask-gunicorn-gevent", _GUNICORN.format(500)),
    Rolling("fastapi-init-gunicorn-asgi", _GUNICORN.format(500)),
    Rolling("fastapi-init-gunicorn-uvicorn", _GUNICORN.format(500)),
    Rolling(
        "fastapi-init-uvicorn",
        "--workers 2 --limit-max-requests 400 --limit-max-requests-jitter 200 --no-access-log",
    ),
    Rolling("fastapi-init-hypercorn-asgi", _HYPERCORN),
    Rolling("flask-hypercorn", _HYPERCORN),
    Rolling("fastapi-init-granian-asgi", _GRANIAN),
    Rolling("flask-granian", _GRANIAN),
    Rolling(
        "flask-uwsgi",
        "--processes 2 --threads 4 --lazy-apps --max-requests 200 --min-worker-lifetime 1"
        " --worker-reload-mercy 8 --disable-logging",
    ),
)


@pytest.mark.parametrize(
    "rolling",
    [
        pytest.param(
            each, id=each.host, marks=[*marks(each.host), *[pytest.mark.slow] * each.is_slow]
        )
        for each in ROLLING
    ],
)
def test_rolling_restart(
    start: Start, events: EventLog, run: str, journal: Journal, rolling: Rolling
) -> None:
    """Workers that are recycled and reloaded under load lose no task and run none twice."""
    server = start(rolling.host, *rolling.options.split())
    wait_for_workers(server, 2)
    with Clients(server) as clients:
        for _ in range(rolling.reloads):
            before, _ = workers(server)
            tell(server, signal.SIGHUP)
            wait_for_workers(server, before + 2)
        clients.wait_for(1000)
    before, _ = workers(server)
    wait_for_workers(server, before)  # a signal to a worker that starts is lost on some servers
    end_while_tasks_run(server, clients, events, run)
    clients.check(journal)
    assert before >= 2 + 2 * rolling.reloads
