"""The promises, on every host."""

from __future__ import annotations

import pytest

from tests.hosts import work
from tests.hosts.client import Broken, Client
from tests.hosts.events import EventLog
from tests.hosts.servers import Server

BODIES = {
    "length": work.BODY,
    "stream": work.BODY,
    "no-content": b"",
    "not-modified": b"",
    "redirect": b"",
    "empty": b"",
    "file": work.BODY,
    "large": work.LARGE,
    "error": b"error",
}
REQUESTS = [
    *[("GET", kind, "1.1") for kind in BODIES],
    *[("GET", kind, "1.0") for kind in ("length", "stream", "file", "empty")],
    *[("HEAD", kind, "1.1") for kind in ("length", "stream", "file")],
    *[("GET", f"async/{kind}", "1.1") for kind in ("length", "stream", "file")],
]


@pytest.mark.parametrize(
    ("method", "kind", "version"), REQUESTS, ids=["-".join(request) for request in REQUESTS]
)
@pytest.mark.parametrize("task", ["sync", "async"])
def test_nobody_waits_for_a_task(
    server: Server,
    client: Client,
    events: EventLog,
    run: str,
    method: str,
    kind: str,
    version: str,
    task: str,
) -> None:
    """While a task runs, its response is whole and the next request has been answered."""
    events.hold(run)
    target = f"/{kind}?run={run}&plan={task}:one,{task}:two"
    response = client.request(method, target, version)
    kind = kind.removeprefix("async/")
    if method == "GET" and kind != "redirect":
        assert response.body == BODIES[kind]
    for _ in range(3):
        following = client.request("GET", f"/length?run={run}-next")
        assert following.body == work.BODY
    stays_open = kind != "error" or not server.host.closes_after_errors
    if server.host.keeps_alive and version == "1.1" and stays_open:
        assert client.connections == 1

    events.wait(run, "start one")
    happened = events.whats(run)
    assert "end one" not in happened
    if "handed over" in happened:
        assert happened.index("handed over") < happened.index("start one")
    elif method != "HEAD" or not server.host.hangs_up_on_head:
        # the server takes a file to send it by itself, and closes it when it has
        assert "file wrapper" in happened

    events.let_go(run)
    events.wait(run, "end two")
    tasks = [what for what in events.whats(run) if what.endswith(("one", "two"))]
    assert tasks == ["start one", "end one", "start two", "end two"]


def test_a_file_stays_one_that_the_server_sends_by_itself(
    server: Server, client: Client, events: EventLog, run: str
) -> None:
    """A ``wsgi.file_wrapper`` reaches the server as what it is."""
    if server.host.is_asgi:
        pytest.skip("a matter of WSGI")
    client.request("GET", f"/file?run={run}&plan=sync:one")
    events.wait(run, "end one")
    assert "file wrapper" in events.whats(run)


def test_order(client: Client, events: EventLog, run: str) -> None:
    """One at a time in the order added, whatever their kinds; own additions run last."""
    plan = "sync:1,async:2,adding:3,partial:4,lambda:5,object:6,method:7,raise:8,sync:9"
    client.request("GET", f"/length?run={run}&plan={plan}")
    events.wait(run, "end 3-added")
    tasks = [what for what in events.whats(run) if what.startswith(("start", "end"))]
    expected = [f"{what} {n}" for n in range(1, 10) for what in ("start", "end")]
    expected.remove("end 8")
    assert tasks == [*expected, "start 3-added", "end 3-added"]


def test_responses_run_side_by_side(server: Server, events: EventLog, run: str) -> None:
    """The tasks of one response do not wait for those of another."""
    events.hold(run)
    with Client(server.port) as first, Client(server.port) as second:
        first.request("GET", f"/length?run={run}&plan=sync:a,async:b")
        second.request("GET", f"/length?run={run}&plan=async:c,sync:d")
        events.wait(run, "start a", "start c")
    assert {"end a", "end c"}.isdisjoint(events.whats(run))
    events.let_go(run)
    events.wait(run, "end b", "end d")


@pytest.mark.parametrize(
    "plan", ["raise:error,araise:other", "raise:exit,araise:cancel", "raise:interrupt,araise:exit2"]
)
def test_isolation(server: Server, client: Client, events: EventLog, run: str, plan: str) -> None:
    """A failing task is logged by name; its successors run and the server goes on."""
    client.request("GET", f"/length?run={run}&plan={plan},sync:after")
    events.wait(run, "end after")
    assert client.request("GET", f"/length?run={run}-next").status == 200
    log = server.log()
    assert "tests.hosts.work.raising_task failed" in log
    assert "tests.hosts.work.async_raising_task failed" in log


@pytest.mark.parametrize("kind", ["fails", "forbids", "async/fails", "async/forbids"])
def test_an_exception_discards(
    server: Server, client: Client, events: EventLog, run: str, kind: str
) -> None:
    """What escapes the view discards its tasks, with a WARNING; ``always`` tasks run."""
    plan = f"sync:never,always:{run},async:neither"
    response = client.request("GET", f"/{kind}?run={run}&plan={plan}")
    assert response.status == (403 if "forbids" in kind else 500)
    events.wait(run, f"end {run}")
    assert [what for what in events.whats(run) if what.startswith("start")] == [f"start {run}"]
    assert "2 background task(s) discarded" in server.log()
    assert "tests.hosts.work.sync_task, tests.hosts.work.async_task" in server.log()


@pytest.mark.parametrize("kind", ["stream-fails", "async/stream-fails"])
def test_a_body_that_breaks_off_discards(
    client: Client, events: EventLog, run: str, kind: str
) -> None:
    """A body that raises half way discards the tasks of its response."""
    client.send("GET", f"/{kind}?run={run}&plan=sync:never,always:always")
    with pytest.raises(Broken):
        raise Broken(client.read().body)  # the server may end it in either way
    events.wait(run, "end always")
    assert "start never" not in events.whats(run)


def test_a_returned_error_runs_the_tasks(client: Client, events: EventLog, run: str) -> None:
    """A returned response runs its tasks, whatever its status."""
    assert client.request("GET", f"/error?run={run}&plan=sync:one").status == 500
    events.wait(run, "end one")


def test_a_task_sees_the_context_it_was_added_in(
    client: Client, events: EventLog, run: str
) -> None:
    """Context variables are those of the moment of ``add_task``."""
    client.request("GET", f"/length?run={run}&plan=sync:one,async:two,lambda:three")
    events.wait(run, "end three")
    seen = {event.data for event in events.of(run) if event.what.startswith("start")}
    assert seen == {f"of {run}"}


def test_async_tasks_share_one_event_loop(client: Client, events: EventLog, run: str) -> None:
    """A client or a pool that is bound to a loop can be kept between tasks."""
    for name in ("one", "two"):
        client.request("GET", f"/length?run={run}&plan=async:{name}")
    events.wait(run, "end one", "end two")
    loops = {event.data for event in events.of(run) if event.what.startswith("end")}
    assert len(loops) == 1


def test_framework_context(server: Server, client: Client, events: EventLog, run: str) -> None:
    """Flask: a fresh application context for each task. Django: the request's language."""
    if server.host.name.startswith(("fastapi", "starlette")):
        pytest.skip("these have no context of their own")
    client.request("GET", f"/context?run={run}", headers="Accept-Language: de\r\n")
    if server.host.name.startswith("django"):
        events.wait(run, "context")
        assert [event.data for event in events.of(run) if event.what == "context"] == ["de"]
    else:
        events.wait_for_two(run, "teardown")
        tasks = [event[1:] for event in events.of(run) if event.what != "handed over"]
        assert tasks == [("context", "False"), ("teardown", "")] * 2


def test_tasks_start_after_the_commit(
    server: Server, client: Client, events: EventLog, run: str
) -> None:
    """FastAPI: the exit code of ``yield`` dependencies runs first."""
    if not server.host.name.startswith("fastapi"):
        pytest.skip("a matter of FastAPI's dependencies")
    for kind in ("length", "async/stream"):
        client.request("GET", f"/{kind}?run={run}-{kind}&plan=sync:one")
        events.wait(f"{run}-{kind}", "end one")
        happened = events.whats(f"{run}-{kind}")
        assert happened.index("commit") < happened.index("start one")
