"""The option ``timeout``: async attempts are cancelled, and what goes on is told of once."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from unittest import mock

import pytest

from bgadapters import BackgroundTasks, Retry, TaskEvent, current_task
from bgadapters.adapters import Runtime
from bgadapters.core import host
from tests.core.ways import PATIENCE, Log, MakeRuntime, Run, awaited, lines_of, reached

SOON = 0.05  # seconds
Steps = Callable[[], Awaitable[Any]]


class Heard:
    """The events of one runtime."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []
        self.overdue = threading.Event()

    def __call__(self, event: TaskEvent) -> None:
        self.events.append(event)
        if event.kind == "overdue":
            self.overdue.set()

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, kind: str) -> TaskEvent:
        (event,) = [event for event in self.events if event.kind == kind]
        return event


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def limited(make_runtime: MakeRuntime, heard: Heard) -> BackgroundTasks:
    return BackgroundTasks(runtime=make_runtime(on_event=heard))


def never() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def waits() -> None:
    await never()


async def waits_in_a_shield() -> None:
    await asyncio.shield(never())


async def waits_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(waits())
        group.create_task(waits())


async def waits_with_a_timeout_of_its_own() -> None:
    async with asyncio.timeout(PATIENCE):
        await never()


async def waits_with_one_that_ends_at_the_same_time() -> None:
    async with asyncio.timeout(SOON):
        await never()


async def waits_in_a_wait_for() -> None:
    await asyncio.wait_for(never(), PATIENCE)


async def cleans_up() -> None:
    try:
        await never()
    finally:
        await asyncio.sleep(0)


async def waits_after_it_was_cancelled_by_itself() -> None:
    own: Any = asyncio.current_task()
    own.cancel()
    try:
        await never()
    except asyncio.CancelledError:
        own.uncancel()
    await never()


@pytest.mark.parametrize(
    "steps",
    [
        waits,
        waits_in_a_shield,
        waits_in_a_group,
        waits_with_a_timeout_of_its_own,
        waits_in_a_wait_for,
        cleans_up,
        waits_after_it_was_cancelled_by_itself,
    ],
    ids=lambda steps: steps.__name__,
)
def test_an_async_attempt_is_cancelled(
    limited: BackgroundTasks, heard: Heard, log: Log, run: Run, steps: Steps
) -> None:
    limited.options(timeout=SOON).add_task(steps)
    limited.add_task(log.append, "the next one")
    run(limited)
    failure = heard.of("failed").exception
    assert isinstance(failure, TimeoutError)
    assert str(failure) == "it has taken longer than its timeout of 0.05 s"
    assert isinstance(failure.__cause__, asyncio.CancelledError)
    assert "overdue" not in heard.kinds
    assert log == ["the next one"]


def test_one_whose_own_timeout_ends_at_the_same_time_has_timed_out(
    limited: BackgroundTasks, heard: Heard
) -> None:
    limited.options(timeout=SOON).add_task(waits_with_one_that_ends_at_the_same_time)
    awaited(limited)
    assert isinstance(heard.of("failed").exception, TimeoutError)


def test_one_that_ends_in_time_is_left_alone(
    limited: BackgroundTasks, heard: Heard, log: Log, run: Run, flavour: Any
) -> None:
    limited.options(timeout=PATIENCE).add_task(flavour(log.append), "done")
    run(limited)
    assert log == ["done"]
    assert heard.kinds == ["added", "started", "succeeded"]
    assert not limited.runtime.scheduler.time_limits.timer._waiting


def test_one_that_swallows_its_cancellation_is_overdue_once_and_its_outcome_counts(
    limited: BackgroundTasks, heard: Heard, warned: Callable[[], list[str]]
) -> None:
    async def deaf() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            await goes_on()

    async def goes_on() -> None:
        await asyncio.to_thread(reached, heard.overdue)

    limited.options(timeout=SOON, name="deaf").add_task(deaf)
    awaited(limited)
    assert heard.kinds == ["added", "started", "overdue", "succeeded"]
    (warning,) = warned()
    assert warning.startswith(
        "Background task deaf has taken longer than its timeout of 0.05 s. It is here:\n"
    )
    stack = heard.of("overdue").stack
    assert stack is not None
    assert "await goes_on()" in stack
    assert "in goes_on" in stack
    assert "bgadapters/core" not in stack


def test_one_that_swallows_it_and_ends_at_once_is_overdue_too(
    limited: BackgroundTasks, heard: Heard, warned: Callable[[], list[str]]
) -> None:
    async def deaf() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            return

    limited.options(timeout=SOON).add_task(deaf)
    awaited(limited)
    assert heard.kinds == ["added", "started", "overdue", "succeeded"]
    assert heard.of("overdue").stack is None
    assert warned()[0].endswith("It ends now")


def test_what_a_cancelled_one_raises_instead_is_its_failure(
    limited: BackgroundTasks, heard: Heard
) -> None:
    async def fails_to_clean_up() -> None:
        try:
            await never()
        finally:
            raise LookupError("no connection")

    limited.options(timeout=SOON).add_task(fails_to_clean_up)
    awaited(limited)
    assert isinstance(heard.of("failed").exception, LookupError)
    assert "overdue" not in heard.kinds


def test_one_that_blocks_its_loop_is_overdue_when_it_ends(
    limited: BackgroundTasks, heard: Heard
) -> None:
    async def blocks() -> None:
        time.sleep(2 * SOON)

    limited.options(timeout=SOON).add_task(blocks)
    awaited(limited)
    assert heard.kinds == ["added", "started", "overdue", "succeeded"]


def test_a_drain_that_cancels_one_whose_time_is_over_has_abandoned_it(
    make_runtime: MakeRuntime, heard: Heard
) -> None:
    runtime = make_runtime(on_event=heard)

    async def deaf() -> None:
        try:
            await never()
        except asyncio.CancelledError:
            await never()

    async def main() -> list[str]:
        queue = BackgroundTasks(runtime=runtime)
        queue.options(timeout=SOON, name="deaf").add_task(deaf)
        queue.release()
        await asyncio.to_thread(reached, heard.overdue)
        return await runtime.adrain(0)

    assert asyncio.run(main()) == ["deaf"]
    assert heard.kinds == ["added", "started", "overdue", "abandoned"]


def test_a_sync_one_is_overdue_once_with_the_stack_of_its_thread(
    limited: BackgroundTasks, heard: Heard, warned: Callable[[], list[str]]
) -> None:
    def slow() -> None:
        is_stuck_here()

    def is_stuck_here() -> None:
        reached(heard.overdue)

    limited.options(timeout=SOON, name="slow").add_task(slow)
    limited.release()
    assert limited.runtime.drain(PATIENCE) == []
    assert heard.kinds == ["added", "started", "overdue", "succeeded"]
    stack = heard.of("overdue").stack
    assert stack is not None
    assert stack.index("in slow") < stack.index("in is_stuck_here")
    assert "bgadapters/core" not in stack
    assert len(warned()) == 1


def test_a_sync_one_where_no_thread_can_tell_is_overdue_when_it_ends(
    limited: BackgroundTasks, heard: Heard
) -> None:
    with mock.patch.object(host, "has_threads", return_value=False):
        limited.options(timeout=SOON).add_task(time.sleep, 2 * SOON)
        limited.release()
    assert heard.kinds == ["added", "started", "overdue", "succeeded"]
    assert heard.of("overdue").stack is None


def test_it_is_told_in_the_context_of_the_task(make_runtime: MakeRuntime) -> None:
    user = ContextVar("user", default="nobody")
    told: list[tuple[str, str]] = []
    overdue = threading.Event()

    def on_event(event: TaskEvent) -> None:
        if event.kind == "overdue":
            told.append((user.get(), threading.current_thread().name))
            overdue.set()

    queue = BackgroundTasks(runtime=make_runtime(on_event=on_event))
    user.set("ada")
    queue.options(timeout=SOON).add_task(reached, overdue)
    user.set("grace")
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert told == [("ada", "bgadapters-timer")]


@pytest.mark.parametrize("way", ["on_a_loop", "in_threads"])
def test_what_a_sync_one_returns_to_be_awaited_has_the_rest_of_its_time(
    limited: BackgroundTasks, heard: Heard, way: str
) -> None:
    def returns_an_awaitable() -> Any:
        time.sleep(SOON)
        return waits()

    limited.options(timeout=2 * SOON).add_task(returns_an_awaitable)
    began = time.monotonic()
    if way == "on_a_loop":
        awaited(limited)
    else:
        limited.release()
        assert limited.runtime.drain(PATIENCE) == []
    assert isinstance(heard.of("failed").exception, TimeoutError)
    assert time.monotonic() - began < PATIENCE


def test_each_attempt_has_its_time_and_no_second_one_runs_beside_the_first(
    limited: BackgroundTasks, heard: Heard, run: Run
) -> None:
    running, most = 0, 0

    async def second_time_lucky() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            task = current_task()
            assert task is not None
            if task.attempt == 1:
                await never()
        finally:
            await asyncio.sleep(0)
            running -= 1

    options = limited.options(timeout=SOON, retries=1, backoff=0, retry_on=TimeoutError)
    options.add_task(second_time_lucky)
    run(limited)
    assert limited.runtime.drain(PATIENCE) == []
    assert heard.kinds == ["added", "started", "retrying", "started", "succeeded"]
    assert most == 1


def test_a_sync_one_that_is_overdue_and_fails_is_tried_again_after_that(
    limited: BackgroundTasks, heard: Heard
) -> None:
    def first_is_slow() -> None:
        task = current_task()
        assert task is not None
        if task.attempt == 1:
            reached(heard.overdue)
            raise Retry("too slow", delay=0)

    limited.options(timeout=SOON, retries=1).add_task(first_is_slow)
    limited.release()
    assert limited.runtime.drain(PATIENCE) == []
    assert heard.kinds == ["added", "started", "overdue", "retrying", "started", "succeeded"]


def test_the_deadline_is_known_in_the_task(
    limited: BackgroundTasks, heard: Heard, run: Run, flavour: Any
) -> None:
    seen: list[float | None] = []

    def look() -> None:
        task = current_task()
        assert task is not None
        seen.append(task.deadline)

    limited.options(timeout=PATIENCE).add_task(flavour(look))
    limited.add_task(flavour(look))
    began = time.monotonic()
    run(limited)
    assert seen[0] is not None
    assert began + PATIENCE <= seen[0] <= time.monotonic() + PATIENCE
    assert seen[1] is None


def test_a_limit_that_nobody_reached_leaves_nothing_behind(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    for _ in range(100):
        queue.options(timeout=3600).add_task(str)
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert runtime.scheduler.time_limits.timer._waiting == {}


def test_a_forked_child_begins_with_nothing(runtime: Runtime) -> None:
    timer = runtime.scheduler.time_limits.timer
    assert timer.add(mock.Mock(), time.monotonic() + 3600)
    runtime.reset_after_fork()
    assert timer._waiting == {}


def test_under_gevent_too() -> None:
    pytest.importorskip("gevent")
    printed = lines_of(
        """
        from gevent import monkey
        monkey.patch_all()
        import asyncio, time, threading
        from bgadapters import BackgroundTasks, drain
        from bgadapters.adapters import Runtime, parse_settings

        overdue = threading.Event()

        def on_event(event):
            if event.kind == "overdue":
                print("overdue", "in stuck" in (event.stack or ""), flush=True)
                overdue.set()
            elif event.kind in ("failed", "succeeded"):
                print(event.kind, type(event.exception).__name__, flush=True)

        runtime = Runtime(parse_settings({"on_event": on_event}))

        def stuck():
            overdue.wait(10)

        async def waits():
            await asyncio.sleep(100)

        import logging
        logging.getLogger("bgadapters").setLevel(logging.CRITICAL)
        queue = BackgroundTasks(runtime=runtime)
        queue.options(timeout=0.1).add_task(stuck)
        queue.options(timeout=0.1).add_task(waits)
        queue.release()
        print(runtime.drain(20))
        """
    )
    assert printed == ["overdue True", "succeeded NoneType", "failed TimeoutError", "[]"]


def test_where_nobody_listens_the_log_tells(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    def is_slow() -> None:
        deadline = time.monotonic() + PATIENCE
        while not warned() and time.monotonic() < deadline:
            time.sleep(0.01)

    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)
    queue.options(timeout=0.01, name="slow").add_task(is_slow)
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert [line.partition(".")[0] for line in warned()] == [
        "Background task slow has taken longer than its timeout of 0"
    ]


def test_a_greenlet_is_watched_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from bgadapters.core.host import gevent, stack

    monkeypatch.setattr(gevent, "current_greenlet", lambda: SimpleNamespace(gr_frame="its own"))
    frame: object = stack.watched_thread()()
    assert frame == "its own"
