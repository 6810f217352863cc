"""Tasks that are held while a server is told something: what runs and what waits behind it."""

from __future__ import annotations

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import Server


def hold_tasks(server: Server, events: EventLog, run: str) -> None:
    """Have a sync and an async task running, and others waiting behind both."""
    events.hold(run)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1,async:2,lambda:3,sync:4")
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=async:5,sync:6,async:7")
    events.wait(run, "start 1", "start 5")


def expect_all(events: EventLog, run: str) -> None:
    """Let the tasks go and wait until the last one has ended."""
    events.let_go(run)
    events.wait(run, *(f"end {number}" for number in range(1, 8)))
