"""SIGTERM while tasks run and others wait: everything that was released finishes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import HOSTS, Server, marks

# What a server prints when it waits for tasks, by a part of a host's name.
_DRAINING = {"gunicorn": "Worker exiting", "mod_wsgi": "Stopping process", "uvicorn": "Waiting for"}

# uvicorn ends the process with the signal itself once no request is open, and Django
# does not speak the lifespan protocol: there bgadapters.django.asgi helps.
_KEPT = [name for name in HOSTS if name != "django-uvicorn"]


@pytest.mark.parametrize("host", [pytest.param(name, marks=marks(name)) for name in _KEPT])
def test_sigterm(start: Callable[..., Server], events: EventLog, run: str, host: str) -> None:
    """What runs and what waits at SIGTERM finishes, sync and async."""
    server = start(host)
    events.hold(run)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1,async:2,lambda:3,sync:4")
        client.request("GET", f"/length?run={run}&plan=async:5,sync:6")
    events.wait(run, "start 1", "start 5")
    server.terminate()
    server.wait_for_log(next(text for name, text in _DRAINING.items() if name in host))
    events.let_go(run)
    events.wait(run, "end 4", "end 6")
    server.wait()
    assert "abandoned" not in server.log()
