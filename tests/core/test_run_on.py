"""Tasks for a response that succeeds, for one that fails, and for both."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from bgadapters import BackgroundTasks, TaskEvent, current_task
from bgadapters.adapters import LiveTasks, Precondition, Runtime
from tests.core.ways import PATIENCE, Log, MakeRuntime, Run, reached


@pytest.fixture
def heard() -> list[TaskEvent]:
    return []


@pytest.fixture
def all_three(
    make_runtime: MakeRuntime, log: Log, heard: list[TaskEvent], flavour: Any
) -> BackgroundTasks:
    queue = BackgroundTasks(runtime=make_runtime(on_event=heard.append))
    for run_on in ("success", "error", "always"):
        queue.options(run_on=run_on, name=run_on).add_task(flavour(log.append), run_on)
    return queue


def ends(heard: list[TaskEvent]) -> dict[str, str]:
    """The one outcome of each task."""
    found = [(event.name, event.kind) for event in heard if event.outcome is not None]
    assert len(found) == len(dict(found))
    return dict(found)


def test_a_response_that_succeeds(
    all_three: BackgroundTasks,
    log: Log,
    heard: list[TaskEvent],
    run: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "bgadapters")
    run(all_three)
    assert log == ["success", "always"]
    assert ends(heard) == {"success": "succeeded", "error": "discarded", "always": "succeeded"}
    (told,) = [event for event in heard if event.kind == "discarded"]
    assert (told.reason, told.exception) == ("the response has succeeded", None)
    records = [record for record in caplog.records if "discarded" in record.getMessage()]
    assert [record.levelno for record in records] == [logging.DEBUG]


@pytest.mark.parametrize("end", ["close", "discard"])
def test_one_that_fails(
    all_three: BackgroundTasks, log: Log, heard: list[TaskEvent], run: Run, end: str
) -> None:
    getattr(all_three, end)(ValueError("broken"))
    if end == "discard":
        run(all_three)
    assert all_three.runtime.drain(PATIENCE) == []
    assert log == ["error", "always"]
    assert ends(heard) == {"success": "discarded", "error": "succeeded", "always": "succeeded"}


def test_what_a_handler_adds_runs_and_so_does_what_it_adds_for_a_failure(
    all_three: BackgroundTasks, log: Log
) -> None:
    all_three.discard(ValueError("broken"))
    all_three.add_task(log.append, "of the handler")
    all_three.options(run_on="error").add_task(log.append, "alert of the handler")
    all_three.release()
    assert all_three.runtime.drain(PATIENCE) == []
    assert log == ["error", "always", "of the handler", "alert of the handler"]


def test_of_several_attempts_that_which_fails_has_its_own(queue: BackgroundTasks, log: Log) -> None:
    queue.add_task(log.append, "before")
    since = queue.position
    for attempt in (1, 2):
        queue.add_task(log.append, ("success", attempt))
        queue.options(run_on="error").add_task(log.append, ("error", attempt))
        if attempt == 1:
            queue.discard(ValueError("the first time"), since)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["before", ("error", 1), ("success", 2)]


def test_a_failure_that_was_tried_again_is_none(queue: BackgroundTasks, log: Log) -> None:
    queue.discard(ValueError("the first time"))
    queue.batch.forget_failure()
    queue.options(run_on="error").add_task(log.append, "error")
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == []


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_rollback_is_a_failure_for_what_was_added_in_its_transaction(
    runtime: Runtime, queue: BackgroundTasks, log: Log, is_committed: bool
) -> None:
    queue.options(run_on="error").add_task(log.append, "error outside")
    commit = Precondition()
    runtime.preconditions = lambda _: [commit]
    queue.add_task(log.append, "success")
    queue.options(run_on="error").add_task(log.append, "error")
    queue.options(run_on="error", on_commit=False).add_task(log.append, "error anyhow")
    queue.release()
    assert log == []
    commit.resolve(is_committed)
    assert runtime.drain(PATIENCE) == []
    assert log == (["success"] if is_committed else ["error"])


def test_one_that_is_discarded_holds_no_capacity(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.options(run_on="error").add_task(log.append, "error")
    assert runtime.in_flight.in_use == 1
    queue.release()
    assert (runtime.in_flight.in_use, runtime.has_work()) == (0, False)


def test_it_waits_for_the_end_where_others_are_flushed(queue: BackgroundTasks, log: Log) -> None:
    ran = threading.Event()
    queue.options(run_on="error").add_task(log.append, "error")
    queue.add_task(ran.set)
    queue.flush()
    reached(ran)
    queue.flush()
    assert len(queue) == 1
    queue.close(ValueError("broken off"))
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["error"]


def test_a_task_of_the_queue_adds_for_what_has_become_of_the_response(
    queue: BackgroundTasks, log: Log
) -> None:
    def adds() -> None:
        queue.options(run_on="error").add_task(log.append, "added by a task")

    queue.add_task(adds)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == []
    other = BackgroundTasks(runtime=queue.runtime)
    other.options(always=True).add_task(
        lambda: other.options(run_on="error").add_task(log.append, "after a failure")
    )
    other.close(ValueError("broken"))
    assert other.runtime.drain(PATIENCE) == []
    assert log == ["after a failure"]


@pytest.mark.parametrize("more", [{}, {"delay": 0.001}, {"priority": 1}])
def test_where_no_response_can_fail_it_is_refused(
    runtime: Runtime, log: Log, more: dict[str, Any]
) -> None:
    live = LiveTasks(runtime=runtime)
    with pytest.raises(TypeError, match="run_on='error'"):
        live.options(run_on="error", **more).add_task(log.append, "error")
    live.end()


def test_with_other_options(queue: BackgroundTasks, log: Log, flavour: Any) -> None:
    options = queue.options(run_on="error", retries=1, backoff=0, timeout=PATIENCE)

    def second_time_lucky() -> None:
        task = current_task()
        assert task is not None
        assert task.response is not None
        log.append((task.attempt, task.response.succeeded, task.options.run_on))
        if task.attempt == 1:
            raise ConnectionError

    options.add_task(flavour(second_time_lucky))
    options.options(delay=0.01).add_task(flavour(log.append), "delayed")
    queue.close(ValueError("broken"))
    assert queue.runtime.drain(PATIENCE) == []
    assert sorted(map(str, log)) == ["(1, False, 'error')", "(2, False, 'error')", "delayed"]


def test_a_delayed_one_is_not_needed_either(queue: BackgroundTasks, log: Log) -> None:
    queue.options(run_on="error", delay=0.01).add_task(log.append, "delayed")
    queue.release()
    assert not queue.runtime.has_work()
    assert log == []
