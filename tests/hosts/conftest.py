"""Fixtures: one server per host, shared by the tests that run against it; and the host table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import table
from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.journal import Journal
from tests.hosts.limits import LIMITS, Limit, find_limit
from tests.hosts.servers import (
    HOSTS,
    LIKE_OTHERS,
    Server,
    environ_of,
    marks,
    start_server,
    stopping,
)

_HERE = Path(__file__).parent
_numbers = itertools.count(1)
_limit = pytest.StashKey[Limit]()
_outcomes = table.Outcomes()
BOUND = 20  # the tasks that may wait or run on a server that tests share
_SHORT = 2.0  # seconds of patience where a test is expected to fail


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--hosts-table", metavar="FILE", help="write the table of hosts to this file")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes ``server`` one for every host."""
    if "server" in metafunc.fixturenames:
        hosts = [pytest.param(name, marks=marks(name, name in LIKE_OTHERS)) for name in HOSTS]
        metafunc.parametrize("server", hosts, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the table what each test is about; expect those to fail that meet a limit.

    What ends the server of its host comes after all others that share it. Servers run in processes
    of their own, so nothing in this one is worth the measuring of coverage, which is slow.
    """
    for item in items:
        if item.path.parent == _HERE:
            item.add_marker("no_cover")
    items.sort(key=lambda item: item.get_closest_marker("ends_its_server") is not None)
    for item in items:
        marker = item.get_closest_marker("promise")
        if marker is None or not isinstance(item, pytest.Function):
            continue
        host, case = _host_and_case(item)
        if host is None:
            continue
        limit = find_limit(host, marker.args, case)
        if limit is not None:
            item.stash[_limit] = limit
            why = f"{limit.why} Instead: {limit.instead}"
            item.add_marker(
                pytest.mark.xfail(reason=why, strict=limit.always)
                if limit.can_be_tried
                else pytest.mark.skip(reason=why)
            )
        told = table.Told(host, marker.args, None if limit is None else LIMITS.index(limit))
        item.user_properties.append(("hosts table", told.to_json()))


def _host_and_case(item: pytest.Function) -> tuple[str | None, str]:
    """The host that a test runs on, and its name with its other arguments."""
    params: dict[str, Any] = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    host = params.pop("server", None) or params.pop("host", None)
    return host, " ".join([item.originalname, *map(str, params.values())])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the outcomes, in the process that sees all of them."""
    for name, value in report.user_properties:
        if name == "hosts table":
            _outcomes.add(table.Told.from_json(str(value)), report)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Write the table, if it was asked for and everything that was tested is true."""
    file = config.getoption("--hosts-table", default=None)
    if file is None:
        return
    unmet = _outcomes.unmet()
    if exitstatus != 0:
        terminalreporter.write_line(f"{file} was not written, since tests have failed")
    elif unmet:
        terminalreporter.write_line(f"{file} was not written: limits that no test meets: {unmet}")
    else:
        Path(file).write_text(table.page(_outcomes.words()))
        terminalreporter.write_line(f"{file} was written")


@pytest.fixture(scope="session")
def event_log() -> Iterator[EventLog]:
    log = EventLog()
    yield log
    log.close()
    twice = log.duplicates()
    assert not twice, "\n".join(str(event) for event in log.of(twice[0].run))


@pytest.fixture
def patience(request: pytest.FixtureRequest) -> float:
    """Seconds that this test waits for what may not come."""
    return _SHORT if _limit in request.node.stash else 20.0


@pytest.fixture
def events(event_log: EventLog, patience: float) -> EventLog:
    event_log.patience = patience
    return event_log


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, event_log: EventLog) -> Iterator[Server]:
    bound = {"BACKGROUND_TASKS_MAX_PENDING": str(BOUND)}
    started = start_server(HOSTS[request.param], {**event_log.environ, **bound})
    try:
        with Client(started.port, reuses=started.host.keeps_alive) as client:  # before any task
            started.threads = client.request("GET", "/threads?run=threads").body.decode()
            # what a first task leaves behind, such as a loop that runs, is there for every test
            name = f"first-on-{request.param}"
            client.request("GET", f"/length?run={name}&plan=async:a,sync:b")
            event_log.wait(name, "end b")
        yield started
        runs = started.runs or started.was_ended
        assert runs, f"{started.host.name} has ended by itself:\n{started.log()}"
    finally:
        started.stop()


@pytest.fixture
def client(connect: Callable[..., Client]) -> Client:
    return connect()


@pytest.fixture
def connect(server: Server, patience: float) -> Iterator[Callable[..., Client]]:
    """Make a client of the server: ``connect(window=...)``, as often as a test needs one."""
    clients: list[Client] = []

    def connected(**options: int) -> Client:
        clients.append(Client(server.port, patience, server.host.keeps_alive, **options))
        return clients[-1]

    yield connected
    for client in clients:
        client.close()


@pytest.fixture
def run(events: EventLog) -> Iterator[str]:
    """The name of this test's request; its tasks are let go at the end."""
    name = f"run{next(_numbers)}"
    yield name
    events.let_go(name)


@pytest.fixture
def start(events: EventLog) -> Iterator[Callable[..., Server]]:
    """Start a server of this test's own: ``start(host_name, *options, SETTING="value")``."""
    with stopping() as started:

        def starter(host: str, *options: str, **settings: str) -> Server:
            environ = {**events.environ, **environ_of(settings)}
            started.append(start_server(HOSTS[host], environ, *options))
            return started[-1]

        yield starter


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Where the tasks of tests with many requests note that they have finished."""
    return Journal(tmp_path / "journal")
