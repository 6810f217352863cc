"""What happens to a task reaches the log and the hooks, and a broken hook costs nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from tests.core.ways import Flavour, Log, MakeRuntime, Run, in_threads


def test_the_hooks_hear_of_everything(
    make_runtime: MakeRuntime, log: Log, run: Run, flavour: Flavour
) -> None:
    failures: list[TaskEvent] = []
    runtime = make_runtime(
        on_event=lambda event: log.append((event.kind, event.task.name)), on_error=failures.append
    )
    queue = BackgroundTasks(runtime=runtime)
    queue.options(name="good").add_task(flavour(lambda: None))
    queue.options(name="bad").add_task(flavour(lambda: [][1]))
    run(queue)
    assert log == [
        ("added", "good"),
        ("added", "bad"),
        ("started", "good"),
        ("succeeded", "good"),
        ("started", "bad"),
        ("failed", "bad"),
    ]
    (failure,) = failures
    assert (failure.kind, failure.task.name) == ("failed", "bad")
    assert isinstance(failure.exception, IndexError)
    assert repr(failure.task) == "<Task bad>"


def test_discarded_tasks_are_told_one_by_one(make_runtime: MakeRuntime, log: Log) -> None:
    queue = BackgroundTasks(runtime=make_runtime(on_event=log.append))
    queue.add_task(print)
    why = KeyError("view")
    queue.discard(why)
    assert [(event.kind, event.exception) for event in log] == [("added", None), ("discarded", why)]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_a_broken_hook_is_logged_and_costs_no_task(
    make_runtime: MakeRuntime,
    log: Log,
    errors: Callable[[], list[str]],
    error: type[BaseException],
    run: Run,
) -> None:
    def hook(_: TaskEvent) -> None:
        raise error

    queue = BackgroundTasks(runtime=make_runtime(on_event=hook, on_error=hook))
    queue.add_task(log.append, 1)
    queue.add_task(divmod, 1, 0)
    queue.add_task(log.append, 2)
    run(queue)
    assert log == [1, 2]
    assert "The hook for the event 'started' of list.append failed" in errors()


def test_starts_and_ends_are_logged_where_somebody_wants_to_know(
    queue: BackgroundTasks, caplog: pytest.LogCaptureFixture, flavour: Flavour
) -> None:
    caplog.set_level(logging.DEBUG, "bgadapters")
    queue.options(name="task").add_task(flavour(lambda: None))
    in_threads(queue)
    assert [r.getMessage() for r in caplog.records if r.name == "bgadapters"] == [
        "Background task task started",
        "Background task task succeeded",
    ]
