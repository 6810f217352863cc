"""A client that leaves once a response was produced cancels nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import HOSTS, Server, on_hosts

pytestmark = pytest.mark.promise(8)

_LEAVES = pytest.mark.parametrize("how", ["FIN", "RST"])


@_LEAVES
@pytest.mark.parametrize("kind", ["wait", "async/wait"])
def test_during_the_view(
    server: Server, client: Client, events: EventLog, run: str, kind: str, how: str
) -> None:
    """A view that goes on has a response, and its tasks run; one that is cancelled has none."""
    events.hold(f"{run}-view")
    client.send("GET", f"/{kind}?run={run}&plan=sync:1,async:2")
    events.wait(f"{run}-view", "start view")
    client.leave(how)
    if server.host.cancels_views:
        events.wait(run, "view cancelled" if kind == "async/wait" else "disconnect")
        events.let_go(f"{run}-view")
        events.wait(run, "call ended")
        assert "start 1" not in events.whats(run)
    else:
        events.let_go(f"{run}-view")
        events.wait(run, "end 2")


@_LEAVES
@pytest.mark.parametrize("kind", ["large", "large-stream", "async/large-stream"])
def test_in_the_middle_of_the_body(
    connect: Callable[..., Client], events: EventLog, run: str, kind: str, how: str
) -> None:
    """The server cannot send the rest; the tasks run all the same."""
    client = connect(window=4096)
    client.send("GET", f"/{kind}?run={run}&plan=sync:1,async:2,sync:3")
    client.read_some()
    client.leave(how)
    events.wait(run, "end 3")


@_LEAVES
def test_right_after_the_response(client: Client, events: EventLog, run: str, how: str) -> None:
    """A client that has all it wanted need not stay."""
    client.send("GET", f"/length?run={run}&plan=sync:1,async:2")
    client.read_some()
    client.leave(how)
    events.wait(run, "end 2")


@_LEAVES
def test_while_a_task_runs(
    connect: Callable[..., Client], events: EventLog, run: str, how: str
) -> None:
    """The response was read; what runs and what waits is not cancelled."""
    events.hold(run)
    client = connect()
    client.send("GET", f"/length?run={run}&plan=async:1,sync:2")
    events.wait(run, "start 1")
    client.leave(how)
    connect().request("GET", f"/length?run={run}-next")  # the server has had the time to notice
    events.let_go(run)
    events.wait(run, "end 2")


_IMPATIENT = {  # servers that cancel the call of a client that has left, and how to make it soon
    "daphne": ("--application-close-timeout", "1"),
    "gunicorn-asgi": ("--asgi-disconnect-grace-period", "1"),
}


@pytest.mark.slow
@on_hosts(*(name for name, host in HOSTS.items() if host.server.name in _IMPATIENT))
def test_a_task_outlasts_the_patience_of_the_server(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """The server gives the call up; the tasks of its response run to their end."""
    server = start(host, *_IMPATIENT[HOSTS[host].server.name])
    events.hold(run)
    client = Client(server.port)
    client.request("GET", f"/length?run={run}&plan=async:1,sync:2,async:3")
    events.wait(run, "start 1")
    client.close()
    events.wait(run, "call ended")
    assert "end 1" not in events.whats(run)
    events.let_go(run)
    events.wait(run, "end 3")
