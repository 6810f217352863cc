"""Runtimes that must end with balanced books, and the ways to run a queue."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import FrameworkHooks, Runtime, parse_settings
from tests.core import durable_tasks, ways


@pytest.fixture
def make_runtime() -> Iterator[ways.MakeRuntime]:
    made: list[Runtime] = []

    def make(
        *, scope: Any = None, ascope: Any = None, context: Any = None, **settings: Any
    ) -> Runtime:
        hooks = FrameworkHooks(scope=scope, ascope=ascope, context=context)
        runtime = Runtime(parse_settings(settings), hooks)
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        left = runtime.drain(ways.PATIENCE)
        stop_loop(runtime)
        assert (left, runtime.in_flight.in_use, runtime.in_flight.live()) == ([], 0, [])


@pytest.fixture
def runtime(make_runtime: ways.MakeRuntime) -> Runtime:
    return make_runtime()


@pytest.fixture
def queue(runtime: Runtime) -> BackgroundTasks:
    return BackgroundTasks(runtime=runtime)


@pytest.fixture
def log() -> ways.Log:
    """What happened, in the order it did; appending is atomic."""
    return []


@pytest.fixture(
    params=[ways.in_threads, ways.on_a_loop, ways.awaited, ways.in_the_releasing_thread],
    ids=lambda way: way.__name__,
)
def run(request: pytest.FixtureRequest) -> ways.Run:
    """Release a queue, one way or another, and return when it has run."""
    way: ways.Run = request.param

    def run_and_check(queue: BackgroundTasks) -> None:
        way(queue)
        assert queue.batch not in queue.runtime.in_flight.live()

    return run_and_check


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> ways.Flavour:
    """Make a sync or an async task of a plain function."""
    return ways.as_coroutine_function if request.param == "async" else lambda func: func


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged at WARNING so far."""
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged at ERROR so far, whoever logged it."""
    return lambda: [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def stop_loop(runtime: Runtime) -> None:
    """Threads and loops of a runtime live as long as the process; a test's end with the test."""
    runtime.scheduler.background.stop()


@pytest.fixture
def nothing_has_happened() -> Iterator[None]:
    """Functions that are called out of a store have done nothing yet, and go on afterwards."""
    durable_tasks.happened.clear()
    durable_tasks.failures.clear()
    durable_tasks.may_go_on.clear()
    durable_tasks.began.clear()
    yield
    durable_tasks.may_go_on.set()
