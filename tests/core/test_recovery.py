"""What processes that have ended have left behind runs in another one."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from unittest import mock

import pytest

from bgadapters import (
    BackgroundTasks,
    QueueFullError,
    SettingsError,
    StoreUnavailableError,
    task_options,
)
from bgadapters.adapters import Batch, check_store, mode, start_serving
from bgadapters.core import host
from bgadapters.core.outbox import recovery as recovery_module
from bgadapters.core.outbox.outbox import outbox_of
from bgadapters.core.outbox.recovery import GRACE, PUT_OFF, Recovery
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_store import Database, MemoryStore
from tests.core.ways import PATIENCE, MakeRuntime, reached

HERE = ["tests.core.durable_tasks"]
AWAY = StoreUnavailableError("it is away")

language: ContextVar[str] = ContextVar("language", default="en")


pytestmark = pytest.mark.usefixtures("nothing_has_happened")


@pytest.fixture
def database() -> Database:
    return Database()


class Process:
    """One process with an application, of which no task runs before it is recovered."""

    def __init__(self, make_runtime: MakeRuntime, database: Database, **settings: Any) -> None:
        self.store = MemoryStore(database)
        self.events: list[Any] = []
        self.runtime = make_runtime(
            store=self.store,
            on_event=lambda event: self.events.append(event.kind),
            **{"task_modules": HERE, **settings},
        )
        self.recovery = Recovery(self.runtime, outbox_of(self.runtime))

    def add(self, func: Callable[..., Any], *args: Any, **options: Any) -> None:
        """A response has a task, and its process is killed before it is complete."""
        self.queue = BackgroundTasks(runtime=self.runtime, path="/a", method="POST")
        self.queue.options(durable=True, **options).add_task(func, *args)

    def is_killed(self) -> None:
        self.queue.confirm()
        self.store.database.kill(self.store)
        self.queue.batch.remove()

    def recover(self) -> None:
        self.recovery.recover()
        assert self.runtime.drain(PATIENCE) == []


@pytest.fixture
def make_process(make_runtime: MakeRuntime, database: Database) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**settings: Any) -> Process:
        made.append(Process(make_runtime, database, **settings))
        return made[-1]

    yield make
    for each in made:
        each.store.on_call = lambda name: None
        each.runtime.close()


Make = Callable[..., Process]


def left_behind(make_process: Make, func: Callable[..., Any], *args: Any, **options: Any) -> None:
    process = make_process()
    process.add(func, *args, **options)
    process.is_killed()


def test_it_runs_once_as_the_same_task(make_process: Make, database: Database) -> None:
    left_behind(make_process, durable_tasks.tell_of_itself)
    (row,) = database.rows()
    process = make_process()
    process.recover()
    assert happened == [(row.id, row.queue_id, 1, "/a", "POST")]
    assert process.events == ["recovered", "started", "succeeded"]
    assert "begin" in process.store.calls
    assert database.ids() == []
    process.recover()
    assert len(happened) == 1


def test_the_order_of_a_response_holds(make_process: Make) -> None:
    first = make_process()
    first.add(durable_tasks.note, 0)
    for number in range(1, 5):
        func = durable_tasks.note if number % 2 else durable_tasks.lazy_note
        first.queue.options(durable=True).add_task(func, number)
    first.is_killed()
    make_process().recover()
    assert happened == [0, 1, 2, 3, 4]


def test_what_was_tried_goes_on_from_there(make_process: Make, database: Database) -> None:
    left_behind(make_process, durable_tasks.fail, 1, retries=2, backoff=0.0)
    (kept,) = database.kept.values()
    kept.row = kept.row._replace(attempt=2)
    durable_tasks.failures[:] = [OSError("a"), OSError("b"), OSError("c")]
    make_process().recover()
    (row,) = database.rows("failed")
    assert (row.attempt, happened) == (3, [])
    assert json.loads(row.failure or "")["error"] == "OSError: b"


def test_options_of_the_row_and_of_the_function_are_in_force(
    make_process: Make, database: Database
) -> None:
    left_behind(make_process, durable_tasks.marked, 1, priority=3, name="named", key="k")
    process = make_process()
    (row,) = database.rows()
    found: Any = process.recovery._made(row, Batch())
    options = found.task.options
    assert (options.retries, options.priority, options.name) == (2, 3, "named")
    assert (options.key, options.durable, options.run_after) == ("k", True, None)
    process.recover()
    assert happened == [1]


def test_a_delay_counts_from_when_it_was_added(make_process: Make, database: Database) -> None:
    left_behind(make_process, durable_tasks.note, 1, delay=3600)
    process = make_process()
    process.recover()
    assert happened == []  # it is not due
    (kept,) = database.kept.values()
    kept.row = kept.row._replace(due=time.time() - 1)
    process.recover()
    assert happened == [1]


def test_what_the_request_has_carried_is_restored(make_process: Make, database: Database) -> None:
    middlewares = [Captures("outer"), Captures("inner")]
    first = make_process(task_middleware=middlewares)
    first.runtime.hooks = first.runtime.hooks._replace(carry=lambda: "fr")
    first.add(tell_the_language)
    first.is_killed()
    second = make_process(task_middleware=[*middlewares, Captures("new")], task_modules=[__name__])
    second.runtime.hooks = second.runtime.hooks._replace(restore=restore)
    second.recover()
    assert happened == [("outer", "outer"), ("inner", "inner"), ("new", None), "fr"]


def restore(carried: str) -> None:
    language.set(carried)


def test_what_has_the_functions_is_imported_before(make_process: Make, caplog: Any) -> None:
    """Once; if that fails nothing is taken, and it is tried again."""
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process()
    imported: list[int] = []

    def import_them() -> None:
        imported.append(len(happened))
        if len(imported) == 1:
            raise ImportError("views")

    hooks = process.runtime.hooks
    process.runtime.hooks = hooks._replace(before_recovery=import_them)
    process.recover()
    assert happened == []
    assert "views" in caplog.text
    process.recover()
    process.recover()
    assert len(happened) == 1
    assert imported == [0, 0]


@task_options()
def tell_the_language() -> None:
    happened.append(language.get())


class Captures:
    def __init__(self, what: Any) -> None:
        self.what = what

    def capture(self, _: Any) -> Any:
        return self.what

    def around(self, _: Any, captured: Any) -> Any:
        happened.append((self.what, captured))
        return mock.MagicMock()


def test_middlewares_that_have_captured_nothing_get_nothing(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    make_process(task_middleware=[Captures("a")]).recover()
    assert happened == [("a", None), 1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"payload": '{"f": "tests.core.durable_tasks:gone"}'}, "there is no"),
        ({"payload": '{"f": "os:system", "a": ["true"]}'}, "may not be called here"),
        ({"payload": '{"f": "not.there:a"}'}, "its module not.there is not imported here"),
        ({"payload": '{"f": "tests.core.durable_tasks:happened"}'}, "may not be called"),
        ({"payload": "no JSON"}, "Expecting value"),
        ({"crashes": 3}, "3 processes have ended while they ran it"),
    ],
)
def test_what_cannot_be_run_is_kept_as_failed(
    make_process: Make,
    database: Database,
    errors: Callable[[], list[str]],
    change: dict[str, Any],
    why: str,
) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    (kept,) = database.kept.values()
    kept.row = kept.row._replace(added=time.time() - GRACE, **change)
    process = make_process()
    process.recover()
    (row,) = database.rows("failed")
    assert why in json.loads(row.failure or "")["reason"]
    (said,) = errors()
    assert "durable_tasks.note of the store cannot be run" in said
    assert (happened, process.events) == ([], [])


def test_one_that_cannot_be_run_is_in_nobodys_way(make_process: Make, database: Database) -> None:
    process = make_process()
    process.add(durable_tasks.note, 1)
    process.queue.options(durable=True).add_task(durable_tasks.note, 2)
    process.is_killed()
    kept = next(iter(database.kept.values()))
    kept.row = kept.row._replace(crashes=3)
    make_process().recover()
    assert happened == [2]


def test_what_this_process_does_not_know_is_left_to_others(
    make_process: Make, database: Database, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that comes behind it; other responses go on."""
    first = make_process()
    first.add(durable_tasks.note, 1)
    for number in (2, 3):
        first.queue.options(durable=True).add_task(durable_tasks.note, number)
    left_behind(make_process, durable_tasks.lazy_note, 4)
    before = time.time()
    first.is_killed()
    old = make_process()
    with mock.patch.object(durable_tasks, "note", None):
        old.recover()
    assert happened == [4]
    rows = database.rows()
    assert [each.owner for each in database.kept.values()] == [None, None, None]
    assert {(each.attempt, each.crashes) for each in rows} == {(1, 0)}
    (due,) = {each.due for each in rows}
    assert due is not None
    assert before + PUT_OFF <= due <= time.time() + PUT_OFF
    old.recover()  # and it does not take them again at once
    messages = [each.getMessage() for each in caplog.records]
    (said,) = (each for each in messages if "cannot be run by this process" in each)
    assert "failed if none has run it 10 minutes after it was added: LookupError: there" in said
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + PUT_OFF)
    make_process().recover()
    assert happened == [4, 1, 2, 3]


def test_of_many_names_that_are_not_here_not_all_are_told(
    make_process: Make, database: Database, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery_module, "_NAMES", 2)
    for number in range(3):
        left_behind(make_process, durable_tasks.note, number, name=f"task {number}")
    with mock.patch.object(durable_tasks, "note", None):
        make_process().recover()
    assert caplog.text.count("cannot be run by this process") == 2
    assert len(database.rows()) == 3


def test_a_module_is_imported_if_it_is_listed(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process(task_modules=["tests."])
    with mock.patch.dict("sys.modules"):
        del sys.modules["tests.core.durable_tasks"]
        process.recovery.recover()
        assert process.runtime.drain(PATIENCE) == []
    assert process.events == ["recovered", "started", "succeeded"]


def test_a_module_that_ends_the_process_does_not(
    make_process: Make, database: Database, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_it.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    left_behind(make_process, durable_tasks.note, 1)
    (kept,) = database.kept.values()
    kept.row = kept.row._replace(payload='{"f": "ends_it:a"}', added=time.time() - GRACE)
    make_process(task_modules=["ends_it"]).recover()
    (row,) = database.rows("failed")
    assert json.loads(row.failure or "")["error"] == "SystemExit: 3"


def test_no_more_is_taken_than_there_is_room_for(make_process: Make, database: Database) -> None:
    for number in range(5):
        left_behind(make_process, durable_tasks.note, number)
    process = make_process(max_pending=4)
    for _ in range(3):
        process.recover()
    assert sorted(happened) == [0, 1, 2, 3, 4]
    assert max(call[1] for call in process.store.calls if call[0] == "take_over") == 2


def test_where_there_is_no_room_nothing_is_taken(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process(max_pending=1)
    process.runtime.in_flight.reserve(1)
    process.recovery.recover()
    process.runtime.in_flight.free(1)
    assert process.store.calls == []
    process.recover()
    assert happened == [1]


def test_what_does_not_fit_is_free_again(make_process: Make, database: Database) -> None:
    first = make_process()
    first.add(durable_tasks.note, 1)
    for number in (2, 3):
        first.queue.options(durable=True).add_task(durable_tasks.note, number)
    first.is_killed()
    process = make_process(max_pending=20, on_full="reject")
    admit = process.runtime.admission.admit
    admitted: list[Any] = []

    def admit_one(*args: Any) -> None:
        if admitted:
            raise QueueFullError("full")
        admitted.append(args)
        admit(*args)

    with mock.patch.object(process.runtime.admission, "admit", admit_one):
        process.recover()
    assert happened == [1]
    assert [each.owner for each in database.kept.values()] == [None, None]
    process.recover()
    assert happened == [1, 2, 3]


def test_the_later_one_counts_of_those_with_a_key(make_process: Make, database: Database) -> None:
    """What was left behind was released before what waits here."""
    left_behind(make_process, durable_tasks.note, "left behind", key="k")
    process = make_process()
    process.add(durable_tasks.wait, "goes first")
    process.queue.options(durable=True, key="k").add_task(durable_tasks.note, "here")
    process.queue.confirm()
    process.queue.release()
    reached(durable_tasks.began)
    process.recovery.recover()
    durable_tasks.may_go_on.set()
    assert process.runtime.drain(PATIENCE) == []
    assert happened == ["goes first", "here"]
    assert database.ids() == []
    assert process.events.count("replaced") == 1


def test_async_ones_run_on_the_loop_that_serves(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.anote, 1)
    process = make_process()

    async def main() -> int:
        process.recovery.start(asyncio.get_running_loop())
        while not happened:  # the loop is free meanwhile
            await asyncio.sleep(0.001)
        return id(asyncio.get_running_loop())

    loop = asyncio.run(main())
    assert happened == [(1, loop)]
    process.recovery.stop()


def test_what_the_framework_has_to_do_before_is_done_once(
    make_process: Make, warned: Callable[[], list[str]]
) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process()
    failures: list[BaseException] = [ImportError("not yet")]

    def prepare() -> None:
        happened.append("prepared")
        if failures:
            raise failures.pop()

    process.runtime.hooks = process.runtime.hooks._replace(before_recovery=prepare)
    process.recover()
    assert happened == ["prepared"]
    assert "ImportError: not yet" in warned()[0]
    process.recover()
    process.recover()
    assert happened == ["prepared", "prepared", 1]


def test_where_no_loop_serves_they_run_all_the_same(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.anote, 1)
    make_process().recover()
    assert [what for what, _ in happened] == [1]


def test_a_store_that_is_away_is_told_once(
    make_process: Make, warned: Callable[[], list[str]]
) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process()

    def on_call(name: str) -> None:
        if name == "take_over":
            raise AWAY

    process.store.on_call = on_call
    process.recover()
    process.recover()
    assert [said.partition(": ")[2] for said in warned()] == ["StoreUnavailableError: it is away"]
    process.store.on_call = lambda name: None
    process.recover()
    assert happened == [1]


def test_a_process_that_ends_takes_nothing(make_process: Make) -> None:
    left_behind(make_process, durable_tasks.note, 1)
    process = make_process()
    process.runtime.is_shut_down = True
    process.recover()
    process.runtime.is_shut_down = False
    process.recovery.stop()
    process.recover()
    assert process.store.calls == []


def test_it_looks_again_until_it_is_stopped(make_process: Make) -> None:
    process = make_process()
    looked = [threading.Event(), threading.Event()]
    left = list(looked)

    def on_call(name: str) -> None:
        if name == "take_over" and left:
            left.pop(0).set()

    process.store.on_call = on_call
    with mock.patch.object(recovery_module, "INTERVAL", 0.0):
        start_serving(process.runtime)
        start_serving(process.runtime)  # it has
        for each in looked:
            reached(each)
        process.runtime.close()


def test_in_a_test_nothing_is_recovered(make_process: Make) -> None:
    process = make_process()
    before = mode.active
    mode.activate(mode.Serving())
    try:
        process.recovery.start()
    finally:
        mode.activate(before)
    assert process.store.calls == []


def test_where_there_are_no_threads_nothing_is_recovered(
    make_process: Make, warned: Callable[[], list[str]]
) -> None:
    process = make_process()
    with mock.patch.object(host, "has_threads", return_value=False):
        process.recovery.start()
    with mock.patch.object(host, "start_thread", side_effect=RuntimeError("no more threads")):
        process.recovery.start()
    assert process.store.calls == []
    assert [said.partition(": ")[2] for said in warned()] == ["RuntimeError: no more threads"]


def test_serving_without_a_store_is_nothing(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    start_serving(runtime)
    check_store(runtime)
    assert runtime.outbox is None


def test_a_store_can_be_checked(make_process: Make) -> None:
    process = make_process()
    check_store(process.runtime)
    assert process.store.calls == ["open"]

    def on_call(name: str) -> None:
        raise AWAY

    other = make_process()
    other.store.on_call = on_call
    with pytest.raises(StoreUnavailableError, match="it is away"):
        check_store(other.runtime)


def test_a_store_that_is_not_installed_is_a_wrong_setting(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bgadapters.stores.sqlalchemy", None)
    with pytest.raises(SettingsError, match="needs a package"):
        outbox_of(make_runtime(store="nosuchthing://x"))


def test_a_store_may_be_made_for_each_process(make_runtime: MakeRuntime) -> None:
    assert isinstance(outbox_of(make_runtime(store=MemoryStore)).store, MemoryStore)


def test_a_recovered_task_may_add_another(make_process: Make, database: Database) -> None:
    left_behind(make_process, durable_tasks.add_another, "more")
    process = make_process()
    process.recovery.recover()
    assert process.runtime.drain(PATIENCE) == []
    assert happened == ["more"]
