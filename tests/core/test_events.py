"""What happens to a task reaches the log and the hooks, and a broken hook costs nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import TaskObserver
from bgadapters.core.model import guard
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
    queue.close(why)
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


class Told(TaskObserver):
    """A callable that is told what becomes of its task."""

    def __init__(self, log: Log, raises: bool = False) -> None:
        self.log = log
        self.raises = raises

    def __call__(self) -> None:
        if self.raises:
            raise KeyError("task")

    def on_task_event(self, event: TaskEvent) -> None:
        self.log.append(event.kind)
        if self.raises:
            raise KeyError("observer")


def test_a_callable_may_observe_what_becomes_of_its_own_task(
    make_runtime: MakeRuntime, log: Log, errors: Callable[[], list[str]]
) -> None:
    """Of its end alone, before the hooks; and one that is broken costs nothing."""
    runtime = make_runtime(on_event=lambda event: log.append(f"hook: {event.kind}"))
    queue = BackgroundTasks(runtime=runtime)
    queue.options(always=True).add_task(Told(log))
    queue.options(always=True, name="bad").add_task(Told(log, raises=True))
    queue.add_task(Told(log))
    del log[:]
    queue.close(KeyError("view"))
    assert runtime.drain() == []
    assert log == [
        "discarded",
        "hook: discarded",
        "hook: started",
        "hook: succeeded",
        "hook: started",
        "failed",
        "hook: failed",
    ]
    assert errors() == [
        "Background task bad failed: KeyError: 'task'",
        "The hook for the event 'failed' of bad failed",
    ]


def test_a_hook_whose_coroutine_nobody_would_await_is_named(
    make_runtime: MakeRuntime, errors: Callable[[], list[str]]
) -> None:
    """As a function that returns one, which is seen when it is called."""

    async def report(_: TaskEvent) -> None: ...

    queue = BackgroundTasks(runtime=make_runtime(on_event=lambda event: report(event)))
    queue.options(name="task").add_task(int)
    in_threads(queue)
    kinds = "added", "started", "succeeded"
    assert errors() == [f"The hook for the event '{kind}' of task failed" for kind in kinds]


@pytest.fixture
def disabled() -> Iterator[Log]:
    """What the root logger gets when somebody has configured logging after the import of ours."""
    got: Log = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            got.append((record.name, record.levelname, record.getMessage(), record.exc_info))

    handler = Handler()
    root = logging.getLogger()
    root.addHandler(handler)
    guard.logger.disabled = True
    yield got
    guard.logger.disabled = False
    root.removeHandler(handler)


def test_a_logger_that_a_later_configuration_has_disabled_is_not_silent(
    queue: BackgroundTasks, disabled: Log
) -> None:
    def fail() -> None:
        raise KeyError("x")

    queue.options(name="bad").add_task(fail)
    in_threads(queue)
    ((name, level, message, exc_info),) = disabled
    assert (name, level) == ("bgadapters", "ERROR")
    assert message == "Background task bad failed: KeyError: 'x'"
    assert exc_info[0] is KeyError
    del exc_info


def test_what_was_asked_for_by_name_is_kept_to(disabled: Log) -> None:
    """Levels, of our logger, of the root and of all."""
    levels: list[tuple[logging.Logger, int]] = [
        (guard.logger, logging.CRITICAL),
        (logging.getLogger(), logging.ERROR),
    ]
    for logger, level in levels:
        before = logger.level
        logger.setLevel(level)
        guard.log(logging.WARNING, "too low")
        logger.setLevel(before)
    logging.disable(logging.CRITICAL)
    guard.log(logging.WARNING, "disabled")
    logging.disable(logging.NOTSET)
    guard.log(logging.WARNING, "%s", "heard")
    assert [message for _, _, message, _ in disabled] == ["heard"]
