"""Load and faults together: as many tasks finish as responses were complete, none twice."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.journal import Journal
from tests.hosts.load import (
    Clients,
    Pipeline,
    PlainServer,
    host_under_load,
    settled_state,
    wait_for_workers,
    workers,
)
from tests.hosts.servers import Server, environ_of, marks, on_hosts, stopping

Start = Callable[..., Server]


@pytest.fixture
def start(events: EventLog, journal: Journal) -> Iterator[Start]:
    """Start a server with the application for load: ``start(host_name, *options)``."""
    with stopping() as started:

        def starter(host: str, *options: str, **settings: str) -> Server:
            environ = {**environ_of(settings), **events.environ, **journal.environ}
            started.append(PlainServer(host_under_load(host), environ, *options))
            return started[-1]

        yield starter


def end_while_tasks_run(
    server: Server, clients: Clients, events: EventLog, run: str, fifo: Path
) -> None:
    """End a server while it has tasks that are held, and wait until it has ended."""
    events.hold(run)
    clients.request_held(run, 12)
    events.wait_until(lambda: len(events.whats(run)) >= 2, f"a start of {run}")
    if fifo.exists():
        fifo.write_text("q")  # uWSGI's graceful end
    else:
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
        # Not by SIGTERM: it skips the exit hooks of a worker that is about to end a request.
        "flask-uwsgi",
        "--processes 2 --threads 4 --lazy-apps --max-requests 400 --min-worker-lifetime 1"
        " --worker-reload-mercy 8 --disable-logging --master-fifo {fifo}",
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
    start: Start, events: EventLog, run: str, journal: Journal, rolling: Rolling, tmp_path: Path
) -> None:
    """Workers that are recycled and reloaded under load lose no task and run none twice."""
    fifo = tmp_path / "fifo"
    server = start(rolling.host, *rolling.options.format(fifo=fifo).split())
    wait_for_workers(server, 2)
    with Clients(server) as clients:
        for _ in range(rolling.reloads):
            before, _ = workers(server)
            server.signal(signal.SIGHUP)
            wait_for_workers(server, before + 2)
        clients.wait_for(1000)
    before, _ = workers(server)
    wait_for_workers(server, before)  # a signal to a worker that starts is lost on some servers
    end_while_tasks_run(server, clients, events, run, fifo)
    clients.check(journal)
    assert before >= 2 + 2 * rolling.reloads


# They have no handler of SIGTERM of their own, or put it back before they have ended.
SINGLE = ("flask-waitress", "flask-werkzeug", "flask-cheroot", "django-uvicorn")


@on_hosts(*SINGLE)
def test_sigterm_in_a_stream_of_requests(start: Start, journal: Journal, host: str) -> None:
    """Whose response was complete before the process ended has its task."""
    server = start(host)
    with Clients(server, threads=4) as clients:
        clients.wait_for(100)
        server.terminate()
        server.wait()
    clients.check(journal)


SOAKED = {
    "fastapi-init-uvicorn-httptools": "--log-level warning --timeout-keep-alive 1",
    "flask-gunicorn-gthread": "",
    "flask-waitress": "",
}
_MARGIN = 4 << 20  # bytes; 50 of them for each request would be less, had they been kept


@pytest.mark.slow
@on_hosts(*SOAKED)
def test_soak(start: Start, journal: Journal, host: str) -> None:
    """After 50,000 requests a process holds what it held after half of them."""
    server = start(host, *SOAKED[host].split())
    first, second = (soak(server, range(n * 25_000, (n + 1) * 25_000)) for n in range(2))
    assert second["rss"] - first["rss"] < _MARGIN, (first, second)
    assert abs(second["objects"] - first["objects"]) < 1000, (first, second)
    # Pools, ours and the servers', have as many as were needed at one time: they are one kind.
    assert kinds(second) == kinds(first)
    assert len(lasting(second)) <= len(lasting(first)) + 8, (first, second)
    assert sum(name.startswith("bgadapters-") for name in lasting(second)) <= 8 + 1  # the loop
    assert second["threads"].count(TIMER) <= 3  # of stalls, of blocked loops, of what waits
    assert second["files"] == first["files"]
    assert second["tasks"] == 0
    assert second["queues"] <= 1, second  # that of the request that told
    assert second["contexts"] <= first["contexts"] + 5, (first, second)
    assert second["asyncio tasks"] <= first["asyncio tasks"], (first, second)
    assert (second["taken"], second["unfinished"]) == (0, 0)
    assert journal.finished() == dict.fromkeys(map(str, range(50_000)), 1)


TIMER = "bgadapters-timer"


def lasting(state: dict[str, Any]) -> list[str]:
    """The threads of a process but those that wait for a time, which end when nothing waits."""
    return [name for name in state["threads"] if name != TIMER]


def kinds(state: dict[str, Any]) -> set[str]:
    """The names of such threads without their numbers."""
    return {name.rstrip("0123456789") for name in lasting(state)}


def soak(server: Server, numbers: range) -> dict[str, Any]:
    """Send these requests; return what the process holds when all of their tasks have run."""
    with Pipeline(server.port) as pipeline:
        for at in range(numbers.start, numbers.stop, 50):
            pipeline.request(range(at, at + 50))
    return settled_state(server)


BOUND = 10


@pytest.mark.parametrize(
    ("host", "beyond"),
    [
        # its four threads release what does not fit, and wait; after seconds they would go on
        pytest.param("flask-gunicorn-gthread", 2 * 4, marks=marks("flask-gunicorn-gthread")),
        pytest.param("fastapi-init-uvicorn", 0, marks=marks("fastapi-init-uvicorn")),
    ],
)
def test_a_burst_keeps_the_bound(
    start: Start, events: EventLog, run: str, journal: Journal, host: str, beyond: int
) -> None:
    """Of 200 requests at once no more tasks wait than may, and everything runs in the end."""
    server = start(host, MAX_WORKERS="2", MAX_PENDING=str(BOUND))
    events.hold(run)
    with burst(server, run) as clients:
        events.wait_until(lambda: len(events.whats(run)) == 2, f"2 starts of {run}")
        if server.host.is_asgi:  # it answers others meanwhile
            wait_for_peak(server, BOUND)
        else:  # each of its threads is released or kept after an answer
            answered = BOUND + 4
            while sum(client.is_answered for client in clients) < answered:
                assert server.runs
        events.let_go(run)
        assert [client.read().status for client in clients] == [200] * 200
    peak = int(ask(server, "/peak"))
    assert BOUND <= peak <= BOUND + beyond
    server.terminate()
    server.wait()
    assert journal.finished() == dict.fromkeys(map(str, range(200)), 1)


@on_hosts("flask-gunicorn-gthread", "fastapi-init-uvicorn")
def test_a_burst_is_refused(
    start: Start, events: EventLog, run: str, journal: Journal, host: str
) -> None:
    """With ``on_full="reject"`` a burst gets as many tasks in as may wait, the rest is told."""
    server = start(host, MAX_WORKERS="2", MAX_PENDING=str(BOUND), ON_FULL="reject")
    events.hold(run)
    with burst(server, run) as clients:
        statuses = [client.read().status for client in clients]
    assert int(ask(server, "/peak")) == BOUND
    events.let_go(run)
    accepted = [str(name) for name, status in enumerate(statuses) if status == 200]
    assert len(accepted) == BOUND
    assert statuses.count(503) == 200 - BOUND
    server.terminate()
    server.wait()
    assert journal.finished() == dict.fromkeys(accepted, 1)


@contextmanager
def burst(server: Server, run: str) -> Iterator[list[Client]]:
    """Send 200 requests, each on a connection of its own, before any response is read."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server.port)) for _ in range(200)]
        for name, client in enumerate(clients):
            client.send("GET", f"/task?name={name}&run={run}")
        yield clients


def ask(server: Server, target: str) -> str:
    with Client(server.port) as client:
        return client.request("GET", target).body.decode()


def wait_for_peak(server: Server, peak: int) -> None:
    deadline = time.monotonic() + 20
    while (so_far := int(ask(server, "/peak"))) != peak:  # asked of a server that is saturated
        assert so_far < peak
        assert time.monotonic() < deadline, f"{so_far} of {peak}"
