"""Durable tasks of which nothing more is asked, made in a shorter way than others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

import bgadapters
from bgadapters import BackgroundTasks, NotPortableError
from bgadapters.adapters import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.options import DEFAULT_OPTIONS
from bgadapters.core.outbox import usual
from bgadapters.core.outbox.durable import KeptTask
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_store import MemoryStore, TransactionalStore
from tests.core.ways import PATIENCE, MakeRuntime, Run

HERE = ["tests.core.durable_tasks"]

pytestmark = pytest.mark.usefixtures("nothing_has_happened")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def runtime(make_runtime: MakeRuntime, store: MemoryStore) -> Iterator[Runtime]:
    runtime = make_runtime(store=store, task_modules=HERE)
    yield runtime
    runtime.close()


@pytest.fixture
def queue(runtime: Runtime) -> BackgroundTasks:
    return BackgroundTasks(runtime=runtime)


def kinds(queue: BackgroundTasks) -> list[bool]:
    """Whether each of the tasks was made in the shorter way."""
    return [type(task) is KeptTask for task in queue.batch.waiting]


def settled(queue: BackgroundTasks, run: Run) -> None:
    run(queue)
    assert queue.runtime.drain(PATIENCE) == []


def payloads(store: MemoryStore) -> list[dict[str, Any]]:
    return [json.loads(row.payload) for row in store.database.rows()]


@pytest.mark.parametrize("func", [durable_tasks.lazy_note, durable_tasks.note, durable_tasks.lazy])
def test_it_runs_and_its_row_goes(
    queue: BackgroundTasks, store: MemoryStore, run: Run, func: Any
) -> None:
    queue.options(durable=True).add_task(func, what=1)
    queue.confirm()
    assert kinds(queue) == [True]
    assert payloads(store) == [{"f": f"tests.core.durable_tasks:{func.__name__}", "k": {"what": 1}}]
    settled(queue, run)
    assert [each[0] if isinstance(each, tuple) else each for each in happened] == [1]
    assert store.database.ids() == []


def test_what_has_raised_stays(queue: BackgroundTasks, store: MemoryStore, run: Run) -> None:
    durable_tasks.failures[:] = [ValueError("it has failed")]
    queue.options(durable=True).add_task(durable_tasks.fail)
    queue.confirm()
    settled(queue, run)
    (row,) = store.database.rows("failed")
    assert json.loads(row.failure or "")["error"] == "ValueError: it has failed"


def test_what_was_discarded_is_not_written(queue: BackgroundTasks, store: MemoryStore) -> None:
    durably = queue.options(durable=True)
    durably.add_task(durable_tasks.note, 1)
    durably.options(always=True).add_task(durable_tasks.note, 2)
    queue.discard(ValueError())
    queue.confirm()
    assert [each["a"] for each in payloads(store)] == [[2]]
    queue.close(ValueError())
    assert queue.runtime.drain(PATIENCE) == []
    assert happened == [2]


def test_tasks_have_the_options_that_they_were_added_with(
    queue: BackgroundTasks, store: MemoryStore, run: Run
) -> None:
    all_options: list[Any] = [{}, {"always": True}, {"retries": 1}, {"name": "named"}, {}]
    for options in all_options:
        queue.options(durable=True, **options).add_task(durable_tasks.note, 1)
    assert kinds(queue) == [True, True, False, False, True]
    assert [task.options.always for task in queue.batch.waiting] == [
        *(False, True, False, False, False)
    ]
    queue.confirm()
    assert [each.get("options") for each in payloads(store)] == [
        *(None, None, {"retries": 1}, {"name": "named"}, None)
    ]
    settled(queue, run)
    assert happened == [1] * 5


@pytest.mark.parametrize("settings", [{"on_full": "reject"}, {"strict_portable": True}])
def test_what_an_application_asks_of_all_tasks_is_asked_of_these(
    make_runtime: MakeRuntime, store: MemoryStore, settings: dict[str, Any], run: Run
) -> None:
    queue = BackgroundTasks(runtime=make_runtime(store=store, task_modules=HERE, **settings))
    queue.options(durable=True).add_task(durable_tasks.note, 1)
    assert kinds(queue) == [False]
    queue.confirm()
    settled(queue, run)
    assert (happened, store.database.ids()) == ([1], [])
    queue.runtime.close()


def test_a_task_may_have_to_wait_for_a_transaction_of_the_application(
    runtime: Runtime, queue: BackgroundTasks, make_runtime: MakeRuntime
) -> None:
    runtime.preconditions = lambda _: ()
    queue.options(durable=True).add_task(durable_tasks.note, 1)
    assert kinds(queue) == [False]
    queue.close(ValueError())
    other = make_runtime(store=TransactionalStore(), task_modules=HERE)
    writes = BackgroundTasks(runtime=other)
    writes.options(durable=True).add_task(durable_tasks.note, 1)
    assert kinds(writes) == [False]
    writes.close(ValueError())
    other.close()


def test_for_a_response_that_fails_it_is_made_as_ever(queue: BackgroundTasks, run: Run) -> None:
    queue.options(durable=True, run_on="error").add_task(durable_tasks.note, 1)
    assert kinds(queue) == [False]
    queue.confirm()
    settled(queue, run)
    assert happened == []


def test_a_function_that_its_name_does_not_find_any_more_is_refused(
    queue: BackgroundTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    durably, func = queue.options(durable=True), durable_tasks.note
    durably.add_task(func, 1)
    monkeypatch.setattr(durable_tasks, "note", durable_tasks.fail)
    with pytest.raises(NotPortableError, match="can be imported by name"):
        durably.add_task(func, 2)
    assert len(queue) == 1
    queue.close(ValueError())


def test_not_without_end_many_functions_are_known(
    queue: BackgroundTasks, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(usual, "_SIZE", 1)
    known = usual.UsualTasks(HERE)
    options = bgadapters.TaskOptions(durable=True)
    for func in (durable_tasks.note, durable_tasks.fail, durable_tasks.note):
        found = known.of(func, options.over(DEFAULT_OPTIONS), options)
        assert found is not None
        assert found.attribute == func.__name__
        assert known.functions == [func]


def test_what_is_added_while_the_response_ends_is_written_soon(
    queue: BackgroundTasks, store: MemoryStore, run: Run
) -> None:
    with mock.patch.object(Batch, "confirm_with", return_value=False):  # it was released meanwhile
        queue.options(durable=True).add_task(durable_tasks.note, 1)
    queue.runtime.outbox.settle(PATIENCE)  # type: ignore[union-attr]  # it was asked for before
    assert len(store.database.ids()) == 1
    settled(queue, run)
    assert (happened, store.database.ids()) == ([1], [])


def test_whoever_waits_may_write_it(
    runtime: Runtime, queue: BackgroundTasks, store: MemoryStore, run: Run
) -> None:
    store.is_for_any_thread = True
    queue.options(durable=True).add_task(durable_tasks.note, 1)
    runtime.outbox.check_store()  # type: ignore[union-attr]  # it was asked for before
    with ThreadPoolExecutor(1, "response") as pool:
        pool.submit(queue.confirm).result(PATIENCE)
    assert "response_0" in store.threads
    (task,) = queue.batch.waiting
    assert task.is_kept
    settled(queue, run)
    assert store.database.ids() == []


def test_what_its_framework_carries_is_in_its_row(
    runtime: Runtime, queue: BackgroundTasks, store: MemoryStore
) -> None:
    runtime.hooks = runtime.hooks._replace(carry=lambda: "fr")
    queue.options(durable=True).add_task(durable_tasks.note, 1)
    assert kinds(queue) == [True]
    queue.confirm()
    assert [said["carried"] for said in payloads(store)] == [{"framework": "fr"}]
    queue.close(ValueError())
