"""The promises, on every host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.hosts import work
from tests.hosts.client import Broken, Client
from tests.hosts.conftest import BOUND
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
STATUSES = {"no-content": 204, "not-modified": 304, "redirect": 302, "error": 500}
REQUESTS = [
    *[("GET", kind, "1.1") for kind in BODIES],
    *[("GET", kind, "1.0") for kind in ("length", "stream", "file", "empty")],
    *[("HEAD", kind, "1.1") for kind in ("length", "stream", "file")],
    *[("GET", f"async/{kind}", "1.1") for kind in ("length", "stream", "file")],
]
# What an async task could change depends on how the end is told, not on each kind of response.
CASES = [
    *[(*request, "sync") for request in REQUESTS],
    *[("GET", kind, "1.1", "async") for kind in ("length", "stream", "file", "no-content")],
    *[("GET", kind, "1.0", "async") for kind in ("length", "stream")],
    ("HEAD", "length", "1.1", "async"),
    ("GET", "async/stream", "1.1", "async"),
]


@pytest.mark.promise(2)
@pytest.mark.parametrize(
    ("method", "kind", "version", "task"), CASES, ids=["-".join(case) for case in CASES]
)
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
    """A response is whole while its task runs, and the task starts after its last byte."""
    events.hold(run)
    target = f"/{kind}?run={run}&plan={task}:one,{task}:two"
    response = client.request(method, target, version)
    kind = kind.removeprefix("async/")
    assert response.status == STATUSES.get(kind, 200)
    if method == "GET" and kind != "redirect":
        assert response.body == BODIES[kind]
    if method == "HEAD" and server.host.server.hangs_up_on_head:
        events.wait(run, "start one")
    else:
        events.wait(run, "start one", "handed over")
    happened = events.whats(run)
    assert "end one" not in happened
    if "handed over" in happened:
        assert happened.index("handed over") < happened.index("start one")
    events.let_go(run)
    events.wait(run, "end two")


@pytest.mark.promise(3)
@pytest.mark.parametrize("task", ["sync", "async"])
@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("GET", "length"),
        ("GET", "stream"),
        ("GET", "file"),
        ("GET", "no-content"),
        ("HEAD", "length"),
    ],
)
def test_the_next_request_does_not_wait(
    server: Server, client: Client, events: EventLog, run: str, method: str, kind: str, task: str
) -> None:
    """While a task runs, the next requests are answered, on its connection if that is kept."""
    events.hold(run)
    client.request(method, f"/{kind}?run={run}&plan={task}:one")
    for _ in range(3):
        assert client.request("GET", f"/length?run={run}-next").body == work.BODY
    if server.host.keeps_alive and kind == "length" and method == "GET":
        assert client.connections == 1
    events.wait(run, "start one")
    assert "end one" not in events.whats(run)


@pytest.mark.promise(2)
@pytest.mark.parametrize("kind", ["large", "large-stream", "async/large-stream"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_large_body_read_slowly(
    connect: Callable[..., Client], events: EventLog, run: str, kind: str, version: str
) -> None:
    """A body that has to wait for its client arrives whole, and before its task starts."""
    client = connect(window=16_384)
    events.hold(run)
    body = client.request("GET", f"/{kind}?run={run}&plan=sync:one", version).body
    assert body == work.LARGE
    events.wait(run, "start one")
    happened = events.whats(run)
    assert happened.index("handed over") < happened.index("start one")


@pytest.mark.promise(2)
def test_a_file_stays_one_that_the_server_sends_by_itself(
    server: Server, client: Client, events: EventLog, run: str
) -> None:
    """A ``wsgi.file_wrapper`` reaches the server as what it is."""
    if server.host.is_asgi or not server.host.server.sends_files:
        pytest.skip("the server has no way of its own to send files")
    client.request("GET", f"/file?run={run}&plan=sync:one")
    events.wait(run, "end one")
    assert "file wrapper" in events.whats(run)


@pytest.mark.promise(4)
def test_order(client: Client, events: EventLog, run: str) -> None:
    """One at a time in the order added, whatever their kinds; own additions run last."""
    plan = "sync:1,async:2,adding:3,partial:4,lambda:5,object:6,method:7,raise:8,sync:9"
    client.request("GET", f"/length?run={run}&plan={plan}")
    events.wait(run, "end 3-added")
    tasks = [what for what in events.whats(run) if what.startswith(("start", "end"))]
    expected = [f"{what} {n}" for n in range(1, 10) for what in ("start", "end")]
    expected.remove("end 8")
    assert tasks == [*expected, "start 3-added", "end 3-added"]


@pytest.mark.promise(4)
def test_responses_run_side_by_side(
    connect: Callable[..., Client], events: EventLog, run: str
) -> None:
    """The tasks of one response do not wait for those of another."""
    events.hold(run)
    connect().request("GET", f"/length?run={run}&plan=sync:a,async:b")
    connect().request("GET", f"/length?run={run}&plan=async:c,sync:d")
    events.wait(run, "start a", "start c")
    assert {"end a", "end c"}.isdisjoint(events.whats(run))
    events.let_go(run)
    events.wait(run, "end b", "end d")


@pytest.mark.promise(5)
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


@pytest.mark.promise(6)
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


@pytest.mark.promise(6)
@pytest.mark.parametrize("kind", ["stream-fails", "async/stream-fails"])
def test_a_body_that_breaks_off_discards(
    server: Server, client: Client, events: EventLog, run: str, kind: str
) -> None:
    """A body that raises half way discards the tasks of its response."""
    client.send("GET", f"/{kind}?run={run}&plan=sync:never,always:always")
    if server.host.server.ends_broken:
        with suppress(Broken):  # or it ends like a whole one
            assert client.read().body != work.BODY
    events.wait(run, "end always")
    assert "start never" not in events.whats(run)


@pytest.mark.promise(6)
def test_a_returned_error_runs_the_tasks(client: Client, events: EventLog, run: str) -> None:
    """A returned response runs its tasks, whatever its status."""
    assert client.request("GET", f"/error?run={run}&plan=sync:one").status == 500
    events.wait(run, "end one")


@pytest.mark.promise(7)
def test_exactly_once(server: Server, client: Client, events: EventLog, run: str) -> None:
    """However a response ends, whatever takes its place: each task runs once."""
    etag = client.request("GET", f"/length?run={run}&plan=sync:0,async:0b").headers.get("etag")
    condition = f"If-None-Match: {etag}\r\n" if etag else ""
    replaced = client.request("GET", f"/length?run={run}&plan=sync:1,async:1b", headers=condition)
    assert (replaced.status != 200) == ("django" in server.host.name)
    requests = [("GET", "stream", "1.1"), ("GET", "file", "1.1"), ("HEAD", "file", "1.1")]
    requests += [("GET", "length", "1.0"), ("GET", "async/stream", "1.1"), ("GET", "error", "1.1")]
    for number, (method, kind, version) in enumerate(requests, 2):
        plan = f"sync:{number},async:{number}b"
        client.request(method, f"/{kind}?run={run}&plan={plan}", version)
    events.wait(run, *(f"end {number}b" for number in range(len(requests) + 2)))
    starts = [what for what in events.whats(run) if what.startswith("start")]
    assert len(starts) == len(set(starts)) == 2 * (len(requests) + 2)


@pytest.mark.promise(10)
def test_a_task_sees_the_context_it_was_added_in(
    client: Client, events: EventLog, run: str
) -> None:
    """Context variables are those of the moment of ``add_task``."""
    client.request("GET", f"/length?run={run}&plan=sync:one,async:two,lambda:three")
    events.wait(run, "end three")
    seen = {event.data for event in events.of(run) if event.what.startswith("start")}
    assert seen == {f"of {run}"}


@pytest.mark.promise(14)
def test_async_tasks_share_one_event_loop(client: Client, events: EventLog, run: str) -> None:
    """A client or a pool that is bound to a loop can be kept between tasks."""
    for name in ("one", "two"):
        client.request("GET", f"/length?run={run}&plan=async:{name}")
    events.wait(run, "end one", "end two")
    loops = {event.data for event in events.of(run) if event.what.startswith("end")}
    assert len(loops) == 1


@pytest.mark.promise(10)
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
        tasks = [event[1:] for event in events.of(run) if event.what in {"context", "teardown"}]
        assert tasks == [("context", "False"), ("teardown", "")] * 2


@pytest.mark.promise(11)
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


@pytest.mark.promise(12)
def test_what_does_not_fit_is_held_back(
    server: Server, connect: Callable[..., Client], events: EventLog, run: str
) -> None:
    """What waits is bounded, the others are served on, and everything runs in the end."""
    if not server.host.settings:
        pytest.skip("its settings cannot be chosen")
    events.hold(run)
    plan = ",".join(f"sync:{{0}}{number}" for number in range(BOUND * 3 // 4))
    connect().request("GET", f"/length?run={run}&plan={plan.format('a')}")
    events.wait(run, "start a0")
    held = connect()
    held.send("GET", f"/length?run={run}-held&plan={plan.format('b')}")
    if server.host.is_asgi:  # under WSGI it is the server's thread that does the work
        events.wait(f"{run}-held", "added")
        assert connect().request("GET", f"/length?run={run}-free").status == 200
        assert "handed over" not in events.whats(f"{run}-held")
    events.let_go(run)
    assert held.read().status == 200
    last = BOUND * 3 // 4 - 1
    events.wait(run, f"end a{last}")
    events.wait(f"{run}-held", f"end b{last}")


@pytest.mark.promise(13)
def test_no_thread_before_the_first_task(server: Server) -> None:
    """A process that has run no task has no thread of this library."""
    assert server.threads
    assert "bgadapters" not in server.threads


@pytest.mark.promise(13)
def test_tasks_run_where_threads_do_not(
    server: Server, client: Client, events: EventLog, run: str
) -> None:
    """Where the server lets no thread run, tasks run in the releasing one; a warning says so."""
    if server.host.server.has_threads:
        pytest.skip("threads run here")
    client.request("GET", f"/length?run={run}&plan=sync:1,async:2")
    events.wait(run, "end 2")
    assert server.log().count("run in the thread that releases them") == 1
