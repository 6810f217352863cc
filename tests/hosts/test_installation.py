"""Django with the decorator alone: what is missing is said at the first task, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.servers import Server, on_hosts

_APPLICATION = "Add 'bgadapters.django' to INSTALLED_APPS"
_ASGI = "from bgadapters.django.asgi import get_asgi_application"


@on_hosts(*(f"django-alone-{name}" for name in ("waitress", "cheroot", "werkzeug", "uvicorn")))
def test_where_sigterm_would_kill(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    server = start(host)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1")
        client.request("GET", f"/length?run={run}-2&plan=sync:2")
    events.wait(run, "end 1")
    events.wait(f"{run}-2", "end 2")
    (line,) = (line for line in server.log().splitlines() if "SIGTERM would end" in line)
    assert line.endswith(_ASGI if "uvicorn" in host else f"{_APPLICATION}.")


@on_hosts("django-uvicorn", "django-wrapped-uvicorn")
def test_workers_of_uvicorn(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """They end by the signal itself, whatever there was before: an open call has them wait."""
    server = start(host, "--workers", "1", "--reload")
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1")
    events.wait(run, "end 1")
    assert (_ASGI in server.log()) is (host == "django-uvicorn")


@on_hosts("django-alone-wsgiref", "django-waitress", "django-uvicorn", "django-gunicorn-gthread")
def test_where_nothing_is_missing(
    start: Callable[..., Server], events: EventLog, run: str, host: str
) -> None:
    """wsgiref serves in the main thread, where even a first task may set the handler."""
    server = start(host)
    with Client(server.port) as client:
        client.request("GET", f"/length?run={run}&plan=sync:1")
    events.wait(run, "end 1")
    assert "SIGTERM" not in server.log()
