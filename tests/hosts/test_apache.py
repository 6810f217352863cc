"""How Apache and mod_wsgi end the processes that run an application, and what becomes of tasks."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.hosts import work
from tests.hosts.apache import Apache
from tests.hosts.client import Client
from tests.hosts.events import EventLog
from tests.hosts.held import expect_all, hold_tasks
from tests.hosts.servers import HOSTS, environ_of, stopping

pytestmark = [pytest.mark.host, pytest.mark.slow]

_PLENTY = "shutdown-timeout=60"
_NAMED = "tests.hosts.work.sync_task, tests.hosts.work.async_task"


@pytest.fixture
def start_apache(events: EventLog) -> Iterator[Callable[..., Apache]]:
    """Start Apache: ``start_apache("shutdown-timeout=60", processes=2, SETTING="value")``."""
    with stopping() as started:

        def starter(options: str, processes: int = 1, **settings: str) -> Apache:
            environ = {**environ_of(settings), **events.environ}
            host = HOSTS["flask-mod_wsgi"]
            apache = Apache(host, environ, processes=processes, options=options)
            started.append(apache)
            return apache

        yield starter


def signals(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", [signal.Signals[name] for name in names], ids=names)


def request(apache: Apache, target: str) -> None:
    with Client(apache.port) as client:
        assert client.request("GET", target).body == work.BODY


@signals("SIGTERM", "SIGINT", "SIGUSR1")
def test_a_daemon_process_that_is_told_to_end(
    start_apache: Callable[..., Apache], events: EventLog, run: str, number: signal.Signals
) -> None:
    """It finishes what was released, and ends by itself; Apache starts another.

    mod_wsgi refuses handlers of signals, with a warning in the log: none is asked for.
    """
    apache = start_apache(_PLENTY)
    hold_tasks(apache, events, run)
    os.kill(apache.daemons()[0], number)
    apache.wait_for_log("Stopping process")
    expect_all(events, run)
    apache.wait_for_log("terminated normally, exit code 0")
    request(apache, f"/length?run={run}-next")
    assert len(apache.daemons()) == 2
    assert "abandoned" not in apache.log()
    assert "Callback registration for signal" not in apache.log()


@signals("SIGTERM", "SIGWINCH", "SIGUSR1", "SIGHUP")
def test_apache_stops_or_restarts(
    start_apache: Callable[..., Apache], events: EventLog, run: str, number: signal.Signals
) -> None:
    """Stop, graceful-stop, graceful and restart: tasks that do not need long finish."""
    apache = start_apache(_PLENTY)
    hold_tasks(apache, events, run)
    apache.signal(number)
    apache.wait_for_log("Stopping process")
    expect_all(events, run)
    if number in {signal.SIGTERM, signal.SIGWINCH}:
        apache.wait()
    else:
        request(apache, f"/length?run={run}-next&plan=sync:7")
        events.wait(f"{run}-next", "end 7")
        assert len(apache.daemons()) == 2
    assert "abandoned" not in apache.log()


def test_a_script_that_was_touched(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """The next request makes the process end; it waits for the new one, which waits for tasks."""
    apache = start_apache(_PLENTY)
    hold_tasks(apache, events, run)
    apache.touch_script()
    with Client(apache.port) as client:
        client.send("GET", f"/length?run={run}-next")
        apache.wait_for_log("Stopping process")
        assert len(apache.daemons()) == 1
        events.let_go(run)
        assert client.read().body == work.BODY
    expect_all(events, run)
    assert len(apache.daemons()) == 2


def test_processes_that_are_recycled(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """With ``maximum-requests`` each response's task runs, and runs once."""
    apache = start_apache(f"maximum-requests=5 {_PLENTY}", processes=2)
    with Client(apache.port) as client:
        for number in range(40):
            kind = "sync" if number % 2 else "async"
            response = client.request("GET", f"/length?run={run}&plan={kind}:{number}")
            assert response.body == work.BODY
    events.wait(run, *(f"end {number}" for number in range(40)))
    assert len(apache.daemons()) > 4


def test_what_outlasts_the_drain_deadline_is_named(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """A ``drain_timeout`` below ``shutdown-timeout``: a warning, and the process ends by itself."""
    apache = start_apache(_PLENTY, DRAIN_TIMEOUT="1")
    hold_tasks(apache, events, run)
    os.kill(apache.daemons()[0], signal.SIGTERM)
    apache.wait_for_log("terminated normally")
    assert _NAMED in apache.log()


def test_what_outlasts_apaches_patience_is_named_if_the_drain_deadline_comes_first(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """Apache that stops kills processes after three seconds: ``drain_timeout`` below that."""
    apache = start_apache(_PLENTY, DRAIN_TIMEOUT="1")
    hold_tasks(apache, events, run)
    apache.terminate()
    apache.wait()
    assert _NAMED in apache.log()


def test_a_limit_of_apache_itself(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """Apache that stops kills processes after three seconds, whatever ``shutdown-timeout`` says."""
    apache = start_apache(_PLENTY)
    hold_tasks(apache, events, run)
    apache.terminate()
    apache.wait()  # though nobody has let the tasks go
    assert "Stopping process" in apache.log()
    assert "Exiting process" not in apache.log()


def test_a_limit_of_the_shutdown_timeout(
    start_apache: Callable[..., Apache], events: EventLog, run: str
) -> None:
    """mod_wsgi aborts a process that needs longer than ``shutdown-timeout``."""
    apache = start_apache("shutdown-timeout=1")
    hold_tasks(apache, events, run)
    os.kill(apache.daemons()[0], signal.SIGTERM)
    apache.wait_for_log("Aborting process")
    apache.wait_for_log("has died")  # though nobody has let the tasks go
