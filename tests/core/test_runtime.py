"""What one application runs with, put together: its scopes and its contexts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from contextvars import Context, ContextVar
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import FrameworkHooks, Installation, Runtime, parse_settings
from bgadapters.core.app import runtime
from bgadapters.core.model import mode
from bgadapters.testing import run_tasks
from tests.core.ways import PATIENCE, Log, MakeRuntime, in_threads
from tests.our_log import OurLog


def test_the_default_runtime_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_default", {})
    assert runtime.default_runtime() is runtime.default_runtime()


def test_a_scope_is_entered_around_sync_and_async_tasks(
    make_runtime: MakeRuntime, log: Log
) -> None:
    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        log.append("in")
        yield
        log.append("out")

    queue = BackgroundTasks(runtime=make_runtime(scope=scope))

    async def task() -> None:
        await asyncio.sleep(0)
        log.append("async")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    in_threads(queue)
    assert log == ["in", "sync", "out", "in", "async", "out"]


@pytest.mark.parametrize("options", [{}, {"retries": 1}], ids=["plain", "with options"])
def test_a_task_runs_in_the_context_that_the_framework_gives_it(
    make_runtime: MakeRuntime, options: Any
) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="that of the process")
    seen: Log = []

    def context() -> Context:
        made = Context()
        made.run(variable.set, "the framework's")
        return made

    queue = BackgroundTasks(runtime=make_runtime(context=context))
    queue.options(**options).add_task(lambda: seen.append(variable.get()))
    in_threads(queue)
    assert seen == ["the framework's"]


@pytest.fixture
def unhandled() -> Iterator[None]:
    """SIGTERM has its default action."""
    handler = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.parametrize(
    ("advice", "settings", "warns"),
    [
        ("Add a line.", {}, True),
        (None, {}, False),
        ("Add a line.", {"handle_sigterm": False}, False),
    ],
)
def test_a_process_that_sigterm_would_kill_is_told_of_once(
    unhandled: None, our_log: OurLog, advice: str | None, settings: Any, warns: bool
) -> None:
    """At its first task: set up in a thread, it has no handler."""
    hooks = FrameworkHooks(installation=Installation(lambda: advice, lambda: advice))
    made = Runtime(parse_settings(settings), hooks)

    def serve() -> None:
        for _ in range(2):
            with BackgroundTasks(runtime=made) as queue:
                queue.add_task(print, end="")

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert made.drain(PATIENCE) == []
    assert len(our_log.warnings) == warns
    assert all("SIGTERM" in said and said.endswith("Add a line.") for said in our_log.warnings)


def test_a_first_task_in_the_main_thread_has_sigterm_handled(
    unhandled: None, our_log: OurLog
) -> None:
    hooks = FrameworkHooks(installation=Installation(lambda: "Add", lambda: "Add"))
    made = Runtime(hooks=hooks)
    with BackgroundTasks(runtime=made) as queue:
        queue.add_task(print, end="")
    assert made.drain(PATIENCE) == []
    assert our_log.warnings == []
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


def test_in_a_test_nothing_is_said_of_sigterm(unhandled: None, our_log: OurLog) -> None:
    hooks = FrameworkHooks(installation=Installation(lambda: "Add", lambda: "Add"))
    with run_tasks(), BackgroundTasks(runtime=Runtime(hooks=hooks)) as queue:
        queue.add_task(print, end="")
    assert our_log.warnings == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_task_may_outlast_the_test_whose_connections_it_uses() -> None:
    """The mode that is in force by then keeps none of them back."""
    found = ["connection"]
    with mode.SERVING.database_scope():
        assert mode.SERVING.own_connections(found) == found


def test_who_sends_before_a_response_says_how() -> None:
    with pytest.raises(NotImplementedError):
        runtime.SentBefore().send()
    with pytest.raises(NotImplementedError):
        asyncio.run(runtime.SentBefore().asend())
