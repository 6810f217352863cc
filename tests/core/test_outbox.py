"""Tasks with the option durable: what becomes of their rows."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

import bgadapters
from bgadapters import BackgroundTasks, NotPortableError, QueueFullError, StoreUnavailableError
from bgadapters.adapters import LiveTasks, Runtime, Store, Task
from bgadapters.core import host
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.outbox.outbox import Outbox
from bgadapters.core.process import shutdown
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_store import Database, MemoryStore, TransactionalStore
from tests.core.ways import PATIENCE, MakeRuntime, Run, reached

AWAY = StoreUnavailableError("it is away")
HERE = ["tests.core.durable_tasks"]


pytestmark = pytest.mark.usefixtures("nothing_has_happened")


@pytest.fixture(params=[MemoryStore, TransactionalStore])
def store(request: pytest.FixtureRequest) -> MemoryStore:
    """Of a store that takes part in no transaction, usual tasks are made in a shorter way."""
    made: MemoryStore = request.param()
    return made


@pytest.fixture
def events() -> list[Any]:
    return []


@pytest.fixture
def runtime(make_runtime: MakeRuntime, store: MemoryStore, events: list[Any]) -> Iterator[Runtime]:
    runtime = make_runtime(
        store=store,
        task_modules=HERE,
        on_event=lambda event: events.append(event.kind),
        concurrency={"one": 1},
    )
    yield runtime
    store.on_call = lambda name: None
    runtime.close()


def settled(runtime: Runtime) -> None:
    assert runtime.drain(PATIENCE) == []


def add(queue: BackgroundTasks, func: Callable[..., Any], *args: Any, **options: Any) -> None:
    queue.options(durable=True, **options).add_task(func, *args)


def fails(store: MemoryStore, *methods: str, error: BaseException = AWAY) -> None:
    def on_call(name: str) -> None:
        if name in methods:
            raise error

    store.on_call = on_call


def test_a_row_is_there_before_the_response_and_gone_after_the_task(
    runtime: Runtime, store: MemoryStore, run: Run
) -> None:
    queue = BackgroundTasks(runtime=runtime, path="/a", method="POST")
    add(queue, durable_tasks.note, "ran")
    assert store.calls == []
    queue.confirm()
    (row,) = store.database.rows()
    assert (row.name, row.attempt) == ("tests.core.durable_tasks.note", 1)
    assert json.loads(row.payload) == {
        "f": "tests.core.durable_tasks:note",
        "a": ["ran"],
        "method": "POST",
        "path": "/a",
    }
    queue.confirm()  # there is nothing left to do
    asyncio.run(queue.aconfirm())
    run(queue)
    settled(runtime)
    assert (happened, store.database.ids()) == (["ran"], [])


def test_all_rows_of_a_response_are_one_write(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    for number in range(3):
        add(queue, durable_tasks.note, number, name=str(number))
    asyncio.run(queue.aconfirm())
    assert store.calls == ["open", ("write", ["0", "1", "2"], [])]
    rows = store.database.rows()
    positions = [row.position for row in rows]
    assert positions == sorted(set(positions))
    assert len({row.queue_id for row in rows}) == 1
    queue.release()
    settled(runtime)
    assert happened == [0, 1, 2]


def test_what_is_discarded_before_has_no_row(
    runtime: Runtime, store: MemoryStore, events: list[Any]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.discard(ValueError())
    queue.confirm()
    queue.release()
    settled(runtime)
    assert (store.calls, events) == ([], ["added", "discarded"])


def test_what_was_discarded_is_not_kept_late(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.discard(ValueError())
    queue.release()
    settled(runtime)
    assert store.calls == []


def test_what_runs_although_the_response_has_failed_is_kept(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, name="not")
    add(queue, durable_tasks.note, 2, name="always", always=True)
    queue.close(ValueError())
    settled(runtime)
    assert happened == [2]
    assert next(call for call in store.calls if call[0] == "write")[1] == ["always"]
    assert store.database.ids() == []


def test_what_is_discarded_after_loses_its_row(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.confirm()
    assert len(store.database.ids()) == 1
    queue.close(ValueError())
    settled(runtime)
    assert (store.database.ids(), happened) == ([], [])


def test_a_store_that_is_away_is_an_error_and_nothing_is_written_later(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    fails(store, "write")
    with pytest.raises(StoreUnavailableError):
        queue.confirm()
    queue.close(AWAY)
    fails(store)
    settled(runtime)
    assert store.calls == ["open", ("write", ["tests.core.durable_tasks.note"], [])]


@pytest.mark.parametrize("how", ["release", "flush"])
def test_what_no_response_waits_for_runs_and_it_is_told(
    runtime: Runtime, store: MemoryStore, errors: Callable[[], list[str]], how: str
) -> None:
    fails(store, "write")
    with BackgroundTasks(runtime=runtime) as queue:
        add(queue, durable_tasks.note, 1)
        if how == "flush":
            queue.flush()
    settled(runtime)
    assert happened == [1]
    assert errors() == [
        "Durable tasks could not be kept, and run in this process alone: "
        "StoreUnavailableError: it is away"
    ]


def test_a_wait_that_is_cancelled_stops_nothing(
    runtime: Runtime, store: MemoryStore, errors: Callable[[], list[str]]
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def on_call(name: str) -> None:
        if name == "write":
            begun.set()
            reached(goes_on)
            raise AWAY

    store.on_call = on_call
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)

    async def main() -> None:
        waits = asyncio.create_task(queue.aconfirm())
        while not begun.is_set():
            await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(main())
    goes_on.set()
    queue.release()
    settled(runtime)
    assert happened == [1]
    assert len(errors()) == 1


def test_on_a_loop_an_error_is_raised(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    fails(store, "open")
    with pytest.raises(StoreUnavailableError, match="it is away"):
        asyncio.run(queue.aconfirm())
    queue.close(AWAY)


def test_what_a_task_adds_is_kept_before_that_one_goes(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with mock.patch.object(durable_tasks, "add_task", lambda *args: add(queue, *args)):
        add(queue, durable_tasks.add_another, "child", name="parent")
        queue.confirm()
        queue.release()
        settled(runtime)
    assert happened == ["child"]
    written = [call for call in store.calls if call[0] == "write"]
    parent, child = (
        next(n for n, call in enumerate(written) if what(call))
        for what in (lambda call: "delete" in call[2], lambda call: call[1][:1] != ["parent"])
    )
    assert child <= parent
    assert store.database.ids() == []


@pytest.mark.parametrize("store", [TransactionalStore], indirect=True)
def test_what_a_task_adds_comes_after_what_was_added_before(
    runtime: Runtime, store: TransactionalStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    store.transaction = []  # so that all rows are there to be looked at
    with mock.patch.object(durable_tasks, "add_task", lambda *args: add(queue, *args)):
        add(queue, durable_tasks.add_another, "child", name="first")
        add(queue, durable_tasks.note, "second", name="second")
        queue.release()
        settled(runtime)
    rows = sorted(store.transaction, key=lambda row: row.position)
    assert [row.name.rpartition(".")[2] for row in rows] == ["first", "second", "note"]
    assert len({row.position for row in rows}) == 3
    assert len({row.queue_id for row in rows}) == 1


def test_what_leaves_the_order_of_a_queue_that_runs_is_kept_too(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)

    def add_one(func: Any, what: Any) -> None:
        add(queue, durable_tasks.wait, what, priority=1)

    with mock.patch.object(durable_tasks, "add_task", add_one):
        queue.add_task(durable_tasks.add_another, "child")
        queue.release()
        reached(durable_tasks.began)
    runtime.outbox.confirm([]).wait()  # type: ignore[union-attr]  # it was asked for before
    assert [row.priority for row in store.database.rows()] == [1]
    durable_tasks.may_go_on.set()
    settled(runtime)
    assert store.database.ids() == []


def test_of_a_connection_each_is_kept_as_it_is_added(runtime: Runtime, store: MemoryStore) -> None:
    queue = LiveTasks(runtime=runtime)
    queue.options(durable=True).add_task(durable_tasks.note, 1)
    queue.end()
    settled(runtime)
    assert (happened, store.database.ids()) == ([1], [])
    assert store.calls[1][1] == ["tests.core.durable_tasks.note"]


def test_hooks_see_the_function_as_it_was_added(
    make_runtime: MakeRuntime, store: MemoryStore
) -> None:
    seen: list[Any] = []
    runtime = make_runtime(
        store=store, task_modules=HERE, on_event=lambda event: seen.append(event.task.func)
    )
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.release()
    settled(runtime)
    assert set(seen) == {durable_tasks.note}
    runtime.close()


def test_a_failure_is_kept(runtime: Runtime, store: MemoryStore, run: Run) -> None:
    durable_tasks.failures[:] = [OSError("down"), OSError("still")]
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.fail, retries=1, backoff=0.0)
    queue.confirm()
    run(queue)
    settled(runtime)
    (row,) = store.database.rows("failed")
    failure = json.loads(row.failure or "")
    assert (row.attempt, failure["error"]) == (2, "OSError: still")
    assert "Traceback" in failure["traceback"]


def test_the_next_attempt_is_in_the_row(runtime: Runtime, store: MemoryStore) -> None:
    durable_tasks.failures[:] = [OSError("down")]
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.fail, 1, retries=1, backoff=1e6)
    queue.confirm()
    (before,) = store.database.rows()
    again = threading.Event()
    store.on_call = lambda name: again.set() if name == "write" else None
    queue.release()
    reached(again)
    runtime.outbox.confirm([]).wait()  # type: ignore[union-attr]  # it was asked for before
    (row,) = store.database.rows()
    assert row.attempt == 2
    assert (row.due or 0) > before.added + 1
    settled(runtime)  # a drain does not wait for a back-off
    assert (happened, store.database.ids()) == ([1], [])


def test_what_was_abandoned_before_it_began_is_free(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.wait, 1, name="began")
    add(queue, durable_tasks.note, 2, name="did not")
    queue.confirm()
    queue.release()
    reached(durable_tasks.began)
    assert runtime.drain(0.0) == ["began", "did not"]
    owners = {each.row.name: each.owner for each in store.database.kept.values()}
    assert owners == {"began": store.owner, "did not": None}
    deleted = threading.Event()

    def on_call(name: str) -> None:
        if name == "write" and "delete" in store.calls[-1][2]:
            deleted.set()

    store.on_call = on_call
    durable_tasks.may_go_on.set()
    reached(deleted)  # it has ended well after all
    settled_writes(runtime)
    assert [row.name for row in store.database.rows()] == ["did not"]


@pytest.mark.parametrize("store", [TransactionalStore], indirect=True)
def test_in_a_transaction_it_is_written_there(runtime: Runtime, store: TransactionalStore) -> None:
    store.transaction = []
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    add(queue, durable_tasks.note, 2)
    assert [row.name for row in store.transaction] == ["tests.core.durable_tasks.note"] * 2
    assert queue.batch.unconfirmed is None
    queue.release()
    settled(runtime)
    assert (happened, store.database.ids()) == ([1, 2], [])
    assert [call if isinstance(call, str) else call[0] for call in store.calls] == [
        *("open", "insert_here", "insert_here", "write")
    ]


@pytest.mark.parametrize("store", [TransactionalStore], indirect=True)
@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"concurrency": "one"}])
def test_what_a_transaction_refuses_is_not_added(
    runtime: Runtime, store: TransactionalStore, options: Any
) -> None:
    store.transaction = []
    fails(store, "insert_here")
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(StoreUnavailableError):
        add(queue, durable_tasks.note, 1, **options)
    assert len(queue) == 0
    queue.release()
    settled(runtime)
    assert happened == []


def test_what_a_transaction_refuses_too_late_runs(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.release()
    settled(runtime)
    runtime.admission.retract(queue.batch, mock.Mock())  # it is not there any more
    assert runtime.in_flight.in_use == 0


@pytest.mark.parametrize("store", [TransactionalStore], indirect=True)
def test_a_full_queue_writes_nothing(make_runtime: MakeRuntime, store: TransactionalStore) -> None:
    runtime = make_runtime(store=store, task_modules=HERE, max_pending=1, on_full="reject")
    store.transaction = []
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    with pytest.raises(QueueFullError):
        add(queue, durable_tasks.note, 2)
    assert len(store.transaction) == 1
    queue.release()
    settled(runtime)
    runtime.close()


def test_a_failed_commit_deletes_the_row(make_runtime: MakeRuntime, store: MemoryStore) -> None:
    class Commit(Precondition):
        def is_up_to_this_thread(self) -> bool:
            return True

    commit = Commit()
    runtime = make_runtime(store=store, task_modules=HERE)
    runtime.preconditions = lambda batch: (commit,)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.confirm()
    queue.release()
    assert len(store.database.ids()) == 1
    commit.resolve(False)
    settled(runtime)
    assert (happened, store.database.ids()) == ([], [])
    runtime.close()


# Keys, in all processes.


def test_a_key_is_claimed_when_the_response_is_complete(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, key="k")
    queue.confirm()
    runtime.outbox.confirm([]).wait()  # type: ignore[union-attr]  # it was asked for before
    assert all("claim" not in call[2] for call in store.calls if call[0] == "write")
    queue.release()
    settled(runtime)
    assert [call for call in store.calls if "claim" in str(call)] != []
    assert "begin" in store.calls
    assert (happened, store.database.ids()) == ([1], [])


def other(database: Database, make_runtime: MakeRuntime) -> Runtime:
    return make_runtime(store=MemoryStore(database), task_modules=HERE)


@pytest.mark.parametrize("on_duplicate", ["replace", "keep"])
def test_of_two_processes_one_runs_it(
    runtime: Runtime,
    store: MemoryStore,
    events: list[Any],
    make_runtime: MakeRuntime,
    on_duplicate: str,
) -> None:
    """The first one waits behind another task until the second one is released."""
    second = other(store.database, make_runtime)
    first_queue, second_queue = (BackgroundTasks(runtime=each) for each in (runtime, second))
    add(first_queue, durable_tasks.wait, "goes first")
    for queue, what in ((first_queue, "first"), (second_queue, "second")):
        add(queue, durable_tasks.note, what, key="k", on_duplicate=on_duplicate)
        queue.confirm()
    first_queue.release()
    reached(durable_tasks.began)
    settled_writes(runtime)
    second_queue.release()
    settled(second)
    durable_tasks.may_go_on.set()
    settled(runtime)
    runs = "second" if on_duplicate == "replace" else "first"
    assert happened == ["goes first", runs]
    assert store.database.ids() == []
    if on_duplicate == "replace":
        assert events.count("replaced") == 1
        assert "failed" not in events
    second.close()


def settled_writes(runtime: Runtime) -> None:
    runtime.outbox.settle(PATIENCE)  # type: ignore[union-attr]  # it was asked for before


@pytest.mark.parametrize("func", [durable_tasks.note, durable_tasks.anote])
def test_what_another_process_has_taken_over_is_not_run(
    runtime: Runtime,
    store: MemoryStore,
    events: list[Any],
    warned: Callable[[], list[str]],
    func: Any,
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, func, 1, key="k", name="taken", retries=3)
    queue.confirm()
    (kept,) = store.database.kept.values()
    kept.owner = "another"
    queue.release()
    settled(runtime)
    assert happened == []
    assert events == ["added", "started", "abandoned"]
    assert "Background task taken was not run here: another process has taken it over" in (
        " ".join(warned())
    )


def test_what_is_still_being_written_is_not_named_as_kept(
    runtime: Runtime, store: MemoryStore, warned: Callable[[], list[str]]
) -> None:
    may_write = threading.Event()
    store.on_call = lambda name: reached(may_write) if name == "write" else None
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.wait, 1)
    with mock.patch.object(runtime.outbox, "settle"):
        queue.release()
        reached(durable_tasks.began)
        assert len(runtime.drain(0)) == 1
    assert "kept in the store" not in warned()[-1]
    may_write.set()
    durable_tasks.may_go_on.set()
    settled(runtime)


def test_a_drain_that_has_given_up_is_not_contradicted(
    runtime: Runtime, store: MemoryStore, events: list[Any]
) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def on_call(name: str) -> None:
        if name == "begin":
            begun.set()
            reached(goes_on)

    store.on_call = on_call
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, key="k", name="slow")
    queue.confirm()
    (kept,) = store.database.kept.values()
    kept.owner = "another"
    queue.release()
    reached(begun)
    with mock.patch("bgadapters.core.app.runtime._SETTLING", 0.0):
        assert runtime.drain(0.0) == ["slow"]
    finished = threading.Event()
    assert queue.batch.on_finished(finished.set)
    goes_on.set()
    reached(finished)
    settled(runtime)
    assert events == ["added", "started", "abandoned"]


@pytest.mark.parametrize("func", [durable_tasks.note, durable_tasks.anote])
def test_a_store_that_is_away_when_a_task_begins_does_not_keep_it_from_running(
    runtime: Runtime, store: MemoryStore, warned: Callable[[], list[str]], func: Any
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, func, 1, key="k")
    queue.confirm()
    fails(store, "begin")
    queue.release()
    settled(runtime)
    assert len(happened) == 1
    assert any("its store was not told" in said for said in warned())


def test_a_task_that_is_not_kept_claims_nothing(
    runtime: Runtime, store: MemoryStore, run: Run
) -> None:
    fails(store, "write")
    queue = BackgroundTasks(runtime=runtime)
    durable_tasks.failures[:] = [ValueError()]
    add(queue, durable_tasks.fail, 1, key="k", retries=1, backoff=0.0)
    with pytest.raises(StoreUnavailableError):
        queue.confirm()
    calls = list(store.calls)
    run(queue)
    settled(runtime)
    assert (happened, store.calls) == ([1], calls)


def test_what_returns_an_awaitable_has_begun_once(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.lazy, 1, key="k")
    queue.confirm()
    queue.release()
    settled(runtime)
    assert len(happened) == 1
    assert store.calls.count("begin") == 1


# What may be durable.


def local() -> None: ...


@pytest.mark.parametrize(
    ("func", "args", "said"),
    [
        (local, (), "Decorate it with @task_options(), list its module"),
        (lambda: None, (), "add it with durable=False"),
        (durable_tasks.note, (object(),), "durable=True accepts arguments that JSON can keep"),
        (durable_tasks.an_object, (), "durable=True accepts what can be imported by name"),
    ],
)
def test_what_cannot_be_kept_is_refused(
    runtime: Runtime, func: Any, args: tuple[Any, ...], said: str
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(NotPortableError, match=re.escape(said)):
        add(queue, func, *args)
    assert len(queue) == 0


def test_a_task_object_of_another_framework_is_refused(runtime: Runtime) -> None:
    class Other:
        func = staticmethod(durable_tasks.note)

        def enqueue(self) -> None: ...

    task: Any = Other()
    with pytest.raises(TypeError, match="kept by its own framework"):
        add(BackgroundTasks(runtime=runtime), task)


def test_an_option_that_is_no_json_belongs_to_the_function(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(
        TypeError, match=r"Write it at the function: @task_options\(backoff=\.\.\.\)"
    ):
        add(queue, durable_tasks.note, 1, retries=1, backoff=lambda attempt, exc: 1.0)


class Session:
    def execute(self) -> None: ...


def test_a_session_that_the_store_does_not_know_is_refused(runtime: Runtime) -> None:
    with pytest.raises(TypeError, match="Store writes in nobody's transaction"):
        add(BackgroundTasks(runtime=runtime), durable_tasks.note, 1, session=Session())
    with pytest.raises(TypeError, match="Store writes in nobody's transaction"):
        BackgroundTasks(runtime=runtime).options(session=Session()).add_task(durable_tasks.durable)


def test_a_session_is_nothing_without_durable(runtime: Runtime) -> None:
    with pytest.raises(TypeError, match="is not without durable=True or send="):
        BackgroundTasks(runtime=runtime).options(session=Session()).add_task(durable_tasks.note, 1)


def test_without_a_store_it_is_an_error(make_runtime: MakeRuntime) -> None:
    with pytest.raises(TypeError, match="the setting 'store' is to say where tasks are kept"):
        BackgroundTasks(runtime=make_runtime()).options(durable=True)


def test_without_threads_it_is_an_error(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    no_threads = mock.patch.object(host, "has_threads", return_value=False)
    with no_threads, pytest.raises(StoreUnavailableError, match="enable-threads"):
        add(queue, durable_tasks.note, 1)


def test_defaults_make_every_task_durable(make_runtime: MakeRuntime, store: MemoryStore) -> None:
    defaults = bgadapters.TaskOptions(durable=True)
    runtime = make_runtime(store=store, task_modules=HERE, defaults=defaults)
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(durable_tasks.note, 1)
    with pytest.raises(NotPortableError, match="durable=False"):
        queue.add_task(local)
    queue.options(durable=False).add_task(local)
    queue.confirm()
    assert len(store.database.ids()) == 1
    queue.release()
    settled(runtime)
    runtime.close()


def test_a_marked_function_needs_no_list(make_runtime: MakeRuntime, store: MemoryStore) -> None:
    runtime = make_runtime(store=store)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.marked, 1)
    queue.confirm()
    queue.release()
    settled(runtime)
    assert happened == [1]
    runtime.close()


def test_a_delay_is_in_the_row(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    when = datetime.now(UTC) + timedelta(seconds=0.01)
    add(queue, durable_tasks.note, 1, run_after=when)
    queue.confirm()
    (row,) = store.database.rows()
    assert row.due == pytest.approx(when.timestamp(), abs=0.001)
    queue.release()
    settled(runtime)
    assert happened == [1]


def test_what_middlewares_have_captured_is_in_the_row(
    make_runtime: MakeRuntime, store: MemoryStore
) -> None:
    runtime = make_runtime(store=store, task_modules=HERE, task_middleware=[Captures("a")])
    runtime.hooks = runtime.hooks._replace(carry=lambda: "fr")
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.confirm()
    (row,) = store.database.rows()
    said = json.loads(row.payload)
    assert (said["captured"][0][1], said["carried"]) == ("a", {"framework": "fr"})
    queue.close(ValueError())
    runtime.close()


class Captures:
    def __init__(self, what: Any) -> None:
        self.what = what

    def capture(self, _: Any) -> Any:
        return self.what

    def around(self, _: Any, captured: Any) -> Any:
        happened.append(("around", self.what, captured))
        return mock.MagicMock()


# The life of a process.


def test_of_an_application_there_is_one_outbox(runtime: Runtime) -> None:
    made: list[Outbox] = []

    def make(runtime: Runtime) -> Outbox:
        if not made:  # another thread is as fast
            made.append(Outbox(runtime))
            assert runtime.kept_by(make) is not made[0]
        return Outbox(runtime)

    first = runtime.kept_by(make)
    assert runtime.kept_by(Outbox) is first is runtime.outbox


def test_what_was_asked_for_nothing_has_nothing_to_end(
    runtime: Runtime, store: MemoryStore
) -> None:
    runtime.kept_by(Outbox)
    settled(runtime)
    asyncio.run(runtime.adrain(PATIENCE))
    runtime.close()
    assert store.calls == []


def test_each_kind_of_drain_writes_what_waits(runtime: Runtime, store: MemoryStore) -> None:
    drains: list[Callable[[], list[str]]] = [
        lambda: runtime.drain(PATIENCE),
        lambda: asyncio.run(runtime.adrain(PATIENCE)),
        lambda: runtime.drain_at_exit(PATIENCE),
    ]
    for drain in drains:
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, 1)
        queue.confirm()
        queue.release()
        assert drain() == []
        assert store.database.ids() == []


def test_a_forked_child_forgets_what_is_its_parents(runtime: Runtime, store: MemoryStore) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.confirm()
    owner = store.owner
    runtime.reset_after_fork()
    assert store.calls[-1] == "forget_connections"
    store.calls.clear()
    child = BackgroundTasks(runtime=runtime)
    add(child, durable_tasks.note, 2)
    child.confirm()
    assert store.calls[0] == "open"
    assert store.owner != owner
    child.release()
    queue.close(ValueError())
    settled(runtime)


@pytest.mark.parametrize("waits", [True, False])
def test_a_block_keeps_its_tasks(runtime: Runtime, store: MemoryStore, waits: bool) -> None:
    """No response begins, so nobody waits for that before."""

    async def in_a_script() -> None:
        async with BackgroundTasks(runtime=runtime) as queue:
            add(queue, durable_tasks.note, 1)

    if waits:
        asyncio.run(in_a_script())
    else:
        with BackgroundTasks(runtime=runtime) as queue:
            add(queue, durable_tasks.note, 1)
    settled(runtime)
    assert happened == [1]
    assert ("write", ["tests.core.durable_tasks.note"], []) in store.calls


def test_a_task_has_a_place_in_a_queue_of_which_nobody_has_heard() -> None:
    batch = BackgroundTasks().batch
    first, second = (Task(print, (), Context()) for _ in range(2))
    assert batch.place_of(first) < batch.place_of(second)


def test_the_end_of_a_process_closes_each_store(
    runtime: Runtime, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.release()
    settled(runtime)
    broken = mock.Mock(**{"close.side_effect": OSError("broken")})
    monkeypatch.setattr(shutdown, "applications", lambda: [broken, runtime])
    shutdown._close()
    assert store.calls[-1] == "close"


def test_a_fork_that_python_did_not_see_is_noticed(runtime: Runtime, store: MemoryStore) -> None:
    with (
        mock.patch.object(host, "hides_forks", return_value=True),
        mock.patch("bgadapters.core.process.fork.notice") as notice,
    ):
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, 1)
        queue.confirm()
        notice.assert_called()
    queue.close(ValueError())


def test_a_store_need_not_share_a_transaction() -> None:
    with pytest.raises(NotImplementedError):
        Store.insert_here(MemoryStore(), [], None)
    assert not Store.shares_transaction(MemoryStore(), None)


def test_a_task_that_waits_for_no_commit_waits_for_none_of_its_own(
    runtime: Runtime, store: MemoryStore
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with mock.patch.object(store, "precondition", side_effect=AssertionError):
        add(queue, durable_tasks.note, 1, on_commit=False)
    queue.release()
    settled(runtime)
    assert happened == [1]
