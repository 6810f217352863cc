"""What is installed for every application of the process: listeners and middlewares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bgadapters import BackgroundTasks, TaskEvent, TaskInfo, TaskMiddleware
from bgadapters.adapters import (
    FrameworkHooks,
    Kind,
    Runtime,
    Settings,
    add_middleware,
    remove_middleware,
    subscribe,
    unsubscribe,
)
from tests.core.ways import Flavour, Log, MakeRuntime, Run, in_threads


@pytest.fixture
def listener(log: Log) -> Iterator[Callable[[TaskEvent], object]]:
    def listen(event: TaskEvent) -> None:
        log.append(("listener", event.kind))

    yield listen
    unsubscribe(listen)


def run_one(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    in_threads(queue)


def test_a_listener_hears_of_every_application_at_once(
    make_runtime: MakeRuntime, log: Log, listener: Callable[[TaskEvent], object]
) -> None:
    before = make_runtime()
    assert before.adds_plainly
    subscribe(listener)
    subscribe(listener)  # the same one twice is one
    after = make_runtime()
    for runtime in before, after:
        assert not runtime.adds_plainly
        run_one(runtime)
    assert log == [("listener", kind) for kind in ("added", "started", "succeeded")] * 2
    del log[:]
    unsubscribe(listener)
    unsubscribe(listener)  # nothing happens
    for runtime in before, after:
        assert runtime.adds_plainly
        assert not runtime.events.has_listeners()
        run_one(runtime)
    assert log == []


def test_a_task_that_was_added_before_is_told_of_from_then_on(
    make_runtime: MakeRuntime, log: Log, listener: Callable[[TaskEvent], object]
) -> None:
    queue = BackgroundTasks(runtime=make_runtime())
    queue.add_task(int)
    subscribe(listener)
    in_threads(queue)
    assert log == [("listener", "started"), ("listener", "succeeded")]


def test_listeners_come_after_signals_and_before_the_hook(
    log: Log, listener: Callable[[TaskEvent], object]
) -> None:
    class Signals:
        def has_receivers(self, *kinds: Kind) -> bool:
            return "started" not in kinds

        def on_event(self, event: TaskEvent) -> None:
            log.append(("signal", event.kind))

    hooks = FrameworkHooks(signals=Signals())
    runtime = Runtime(Settings(on_event=lambda event: log.append(("hook", event.kind))), hooks)
    subscribe(listener)
    run_one(runtime)
    kinds = "added", "started", "succeeded"
    assert log == [(who, kind) for kind in kinds for who in ("signal", "listener", "hook")]


def test_signals_without_receivers_cost_no_event() -> None:
    class Signals:
        def has_receivers(self, *kinds: Kind) -> bool:
            return "discarded" in kinds

        def on_event(self, event: TaskEvent) -> None:
            told.append(event.kind)

    told: list[Kind] = []
    runtime = Runtime(Settings(), FrameworkHooks(signals=Signals()))
    run_one(runtime)
    assert told == []
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(int)
    queue.close(KeyError())
    assert told == ["discarded"]


def test_a_broken_listener_costs_nothing(
    make_runtime: MakeRuntime, log: Log, errors: Callable[[], list[str]]
) -> None:
    def broken(event: TaskEvent) -> None:
        raise KeyError(event.kind)

    runtime = make_runtime(on_event=lambda event: log.append(event.kind))
    subscribe(broken)
    try:
        run_one(runtime)
    finally:
        unsubscribe(broken)
    assert log == ["added", "started", "succeeded"]
    assert errors() == [f"The hook for the event '{kind}' of builtins.int failed" for kind in log]


@pytest.mark.parametrize("wrong", [None, "a.b"])
def test_a_listener_is_called(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"subscribe\(\) accepts a callable, not"):
        subscribe(wrong)


def test_a_listener_is_not_awaited() -> None:
    async def listen(_: TaskEvent) -> None: ...

    with pytest.raises(TypeError, match="accepts a function that is called, not one that is await"):
        subscribe(listen)


class Noting(TaskMiddleware):
    """A middleware that notes what it is asked for."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.log = log

    def capture(self, task: TaskInfo) -> str:
        return f"{self.name} {task.name}"

    @contextmanager
    def around(self, task: TaskInfo, captured: str) -> Iterator[None]:
        self.log.append(f"enter {captured}")
        yield
        self.log.append(f"leave {captured}")


def test_a_middleware_of_the_process_is_outside_of_the_applications_own(
    make_runtime: MakeRuntime, log: Log, run: Run, flavour: Flavour
) -> None:
    runtime = make_runtime(task_middleware=[Noting("own", log)])
    other = make_runtime()
    first, second = Noting("first", log), Noting("second", log)
    names = ["first", "second", "own"]
    try:
        for each in first, second, first:
            add_middleware(each)
        for chosen in runtime, other:
            queue = BackgroundTasks(runtime=chosen)
            queue.options(name="task").add_task(flavour(int))
            run(queue)
            present = names if chosen is runtime else names[:2]
            assert log == [f"enter {name} task" for name in present] + [
                f"leave {name} task" for name in reversed(present)
            ]
            del log[:]
        kept = BackgroundTasks(runtime=other)
        kept.options(name="kept").add_task(flavour(int))
    finally:
        remove_middleware(first)
        remove_middleware(second)
        remove_middleware(second)  # nothing happens
    assert other.middlewares is None
    assert other.adds_plainly
    run(kept)  # a task keeps those that it was added with
    assert log == ["enter first kept", "enter second kept", "leave second kept", "leave first kept"]


def test_a_class_of_middlewares_is_one_as_well(make_runtime: MakeRuntime) -> None:
    entered: Log = []

    class Middleware(TaskMiddleware):
        @contextmanager
        def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
            entered.append(task.name)
            yield

    runtime = make_runtime()
    add_middleware(Middleware)
    add_middleware(Middleware)
    try:
        run_one(runtime)
    finally:
        remove_middleware(Middleware)
    assert entered == ["builtins.int"]
    run_one(runtime)
    assert entered == ["builtins.int"]


def test_what_is_no_middleware_is_refused(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    wrong: Any
    for wrong in lambda: None, 3:
        with pytest.raises(TypeError):
            add_middleware(wrong)
    assert runtime.adds_plainly
