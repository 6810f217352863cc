"""Fixtures: one server per host, shared by the tests that run against it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import HOSTS, Server, marks, start_server

_numbers = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes ``server`` one for every host, kept together under xdist."""
    if "server" in metafunc.fixturenames:
        hosts = [
            pytest.param(name, marks=[*marks(name), pytest.mark.xdist_group(name)])
            for name in HOSTS
        ]
        metafunc.parametrize("server", hosts, indirect=True, scope="session")


@pytest.fixture(scope="session")
def events() -> Iterator[EventLog]:
    log = EventLog()
    yield log
    log.close()
    assert log.duplicates() == []


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, events: EventLog) -> Iterator[Server]:
    started = start_server(HOSTS[request.param], events.environ)
    yield started
    started.stop()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as connected:
        yield connected


@pytest.fixture
def run(events: EventLog) -> Iterator[str]:
    """The name of this test's request; its tasks are let go at the end."""
    name = f"run{next(_numbers)}"
    yield name
    events.let_go(name)


@pytest.fixture
def start(events: EventLog) -> Iterator[Callable[..., Server]]:
    """Start a server of this test's own: ``start(host_name, SETTING="value")``."""
    started: list[Server] = []

    def starter(host: str, **settings: str) -> Server:
        environ = {f"BACKGROUND_TASKS_{name}": value for name, value in settings.items()}
        started.append(start_server(HOSTS[host], {**events.environ, **environ}))
        return started[-1]

    yield starter
    for server in started:
        server.stop()
