"""Tasks that are tried again: when, how often, in which context, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextvars
import math
import queue as queues
import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from bgadapters import BackgroundTasks, NoRetry, Retry, TaskEvent
from bgadapters.adapters import Runtime
from bgadapters.core import host
from bgadapters.core.app.later import Later
from bgadapters.core.drivers.timer import Timer
from bgadapters.core.model.task import Wait
from tests.core.ways import PATIENCE, Flavour, Log, MakeRuntime, Run, lines_of, reached
from tests.our_log import OurLog

AT_ONCE: Any = {"backoff": 0.0}
NEVER = 1e6


class Flaky:
    """Raises what it is given, one after the other, and then returns."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)


def outcomes_of(make_runtime: MakeRuntime, **settings: Any) -> tuple[Runtime, list[Any]]:
    """A runtime, and the kinds of its events with their attempts."""
    events: list[Any] = []

    def note(event: TaskEvent) -> None:
        if event.kind != "added":
            events.append((event.kind, event.attempt))

    return make_runtime(on_event=note, **settings), events


def test_a_task_is_tried_again_until_it_succeeds(
    make_runtime: MakeRuntime, flavour: Flavour, run: Run, warned: Callable[[], list[str]]
) -> None:
    runtime, events = outcomes_of(make_runtime)
    flaky = Flaky(OSError("one"), ValueError("two"))
    queue = BackgroundTasks(runtime=runtime)
    queue.options(retries=3, backoff=0.001, name="flaky").add_task(flavour(flaky.__call__))
    run(queue)
    assert runtime.drain(PATIENCE) == []
    assert flaky.calls == 3
    assert events == [
        *(("started", 1), ("retrying", 1)),
        *(("started", 2), ("retrying", 2)),
        *(("started", 3), ("succeeded", 3)),
    ]
    first, second = (line for line in warned() if "worker thread" not in line)
    assert first.startswith("Background task flaky failed in attempt 1, and is tried again ")
    assert first.endswith(": OSError: one")
    assert second.endswith(": ValueError: two")


def test_the_last_failure_is_an_error_that_names_all(
    make_runtime: MakeRuntime, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, events = outcomes_of(make_runtime)
    flaky = Flaky(OSError("one"), ValueError("two"), KeyError("three"))
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=1, name="flaky", **AT_ONCE).add_task(flavour(flaky.__call__))
    assert runtime.drain(PATIENCE) == []
    assert flaky.calls == 2
    assert [each for each in events if each[0] != "started"] == [("retrying", 1), ("failed", 2)]
    (error,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert error.getMessage() == (
        "Background task flaky failed: ValueError: two; attempt 2, after OSError: one"
    )


@pytest.mark.parametrize(
    ("failure", "options", "calls"),
    [
        (OSError(), {"retry_on": OSError}, 2),
        (OSError(), {"retry_on": (KeyError, OSError)}, 2),
        (OSError(), {"retry_on": ValueError}, 1),
        (OSError(), {"retry_on": ()}, 1),
        (OSError("busy"), {"retry_on": lambda exc: "busy" in str(exc)}, 2),
        (OSError("gone"), {"retry_on": lambda exc: "busy" in str(exc)}, 1),
        (OSError(), {"retry_on": lambda _: 1 / 0}, 1),
        (OSError(), {"backoff": lambda *_: "soon"}, 1),
        (Retry(), {"retry_on": ValueError}, 2),
        (Retry("busy", delay=0), {"retry_on": ()}, 2),
        (Retry(), {"retries": 0}, 1),
        (NoRetry(), {}, 1),
        (SystemExit(), {}, 1),
        (KeyboardInterrupt(), {}, 1),
        (asyncio.CancelledError(), {}, 1),
    ],
)
def test_what_is_worth_another_attempt(
    make_runtime: MakeRuntime,
    flavour: Flavour,
    failure: BaseException,
    options: Any,
    calls: int,
) -> None:
    runtime, events = outcomes_of(make_runtime)
    flaky = Flaky(failure)
    with BackgroundTasks(runtime=runtime) as queue:
        given: Any = {"retries": 1, **AT_ONCE, **options}
        queue.options(**given).add_task(flavour(flaky.__call__))
    assert runtime.drain(PATIENCE) == []
    assert flaky.calls == calls
    assert events[-1][0] == ("succeeded" if calls == 2 else "failed")


@pytest.mark.parametrize("delay", [-1, "1", True, float("nan")])
def test_a_time_to_retry_that_is_none_is_refused(delay: Any) -> None:
    with pytest.raises(TypeError, match=r"Retry\(delay=\.\.\.\) accepts a number of seconds"):
        Retry(delay=delay)


def test_the_back_off_doubles_is_random_and_bounded(make_runtime: MakeRuntime) -> None:
    waits: list[float] = []
    runtime = make_runtime()
    scheduler = runtime.scheduler
    try_again = scheduler.execution._try_again

    def note(batch: Any, task: Any, wait: Any) -> None:
        waits.append(wait.seconds)
        try_again(batch, task, wait._replace(seconds=0.0))

    scheduler.execution._try_again = note
    with BackgroundTasks(runtime=runtime) as queue:
        options = queue.options(retries=1100, backoff=1.0, max_backoff=8.0)
        options.add_task(Flaky(*(OSError() for _ in range(1100))))
    assert runtime.drain(PATIENCE) == []
    assert len(waits) == 1100
    assert all(0 <= wait <= most for wait, most in zip(waits, (1, 2, 4), strict=False))
    assert 7 < max(waits) <= 8
    assert min(waits) < 1


def test_the_applications_random_numbers_are_left_alone(runtime: Runtime) -> None:
    random.seed(1)
    before = random.getstate()
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=1, backoff=0.001).add_task(Flaky(OSError()))
    assert runtime.drain(PATIENCE) == []
    assert random.getstate() == before


@pytest.mark.parametrize(
    "returned", [math.nan, math.inf, -math.inf, "0.01", "soon", None, [1], 10**400]
)
def test_a_function_that_returns_no_seconds_is_named(
    make_runtime: MakeRuntime, returned: Any
) -> None:
    events: list[TaskEvent] = []
    runtime = make_runtime(on_error=events.append)
    failure = OSError("busy")
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=1, backoff=lambda *_: returned).add_task(Flaky(failure))
    assert runtime.drain(PATIENCE) == []
    (event,) = events
    assert isinstance(event.exception, TypeError)
    assert str(event.exception).startswith(
        f"the function that was given as backoff has returned {returned!r}; it has to return"
    )
    assert event.exception.__context__ is failure


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0123, "in 0.0123 s"), (90, "in 90 s"), (3600, "in 3600 s")]
)
def test_the_time_of_the_next_attempt_is_told_in_seconds(
    make_runtime: MakeRuntime, our_log: OurLog, seconds: float, shown: str
) -> None:
    runtime = make_runtime()
    queue = BackgroundTasks(runtime=runtime)
    queue.options(retries=1, name="busy").add_task(Flaky(OSError()))
    (task,) = queue.batch.waiting
    runtime.events.retrying(queue.batch, task, OSError("busy"), Wait(seconds))
    queue.close(OSError())
    assert f"attempt 1, and is tried again {shown}: " in our_log.warnings[0]


def test_a_function_says_how_long_to_wait(make_runtime: MakeRuntime, log: Log) -> None:
    def backoff(attempt: int, exception: Exception) -> float:
        log.append((attempt, str(exception)))
        return -1.0

    runtime = make_runtime()
    with BackgroundTasks(runtime=runtime) as queue:
        flaky = Flaky(OSError("one"), OSError("two"))
        queue.options(retries=5, backoff=backoff).add_task(flaky)
    assert runtime.drain(PATIENCE) == []
    assert log == [(1, "one"), (2, "two")]


def test_a_time_that_was_asked_for_is_kept(make_runtime: MakeRuntime, log: Log) -> None:
    def task() -> None:
        log.append(time.monotonic())
        if len(log) == 1:
            raise Retry(delay=0.1)

    runtime = make_runtime()
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=1).add_task(task)
    assert runtime.drain(PATIENCE) == []
    assert log[1] - log[0] >= 0.1


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_a_task_that_waits_holds_nothing_but_its_place(
    make_runtime: MakeRuntime, flavour: Flavour, kind: str
) -> None:
    """Neither a worker, nor its response, nor those behind it."""
    runtime = make_runtime(max_workers=1)
    behind, other = threading.Event(), threading.Event()
    flaky = Flaky(Retry(delay=NEVER))

    async def on_a_loop() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.options(retries=1, name="waits").add_task(flavour(flaky.__call__))
        queue.add_task(flavour(behind.set))
        await asyncio.wait_for(queue(), PATIENCE)
        assert behind.is_set()

    if kind == "loop":
        asyncio.run(on_a_loop())
    else:
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(retries=1, name="waits").add_task(flavour(flaky.__call__))
            queue.add_task(flavour(behind.set))
        reached(behind)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.add_task(other.set)
    reached(other)
    assert runtime.in_flight.in_use >= 1
    assert runtime.drain(PATIENCE) == ["waits"]
    assert runtime.in_flight.in_use == 0


def test_each_attempt_sees_the_context_of_the_moment_in_which_it_was_added(
    runtime: Runtime, log: Log, flavour: Flavour, run: Run
) -> None:
    variable = contextvars.ContextVar("variable", default="none")

    def task() -> None:
        log.append(variable.get())
        variable.set("spoiled")
        if len(log) < 3:
            raise OSError

    queue = BackgroundTasks(runtime=runtime)
    variable.set("view")
    queue.options(retries=2, backoff=0.001).add_task(flavour(task))
    variable.set("later")
    run(queue)
    assert runtime.drain(PATIENCE) == []
    assert log == ["view"] * 3


def test_async_attempts_stay_on_their_loop_while_it_runs(runtime: Runtime) -> None:
    loops: list[Any] = []

    async def task(failures: int) -> None:
        loops.append(asyncio.get_running_loop())
        if len(loops) <= failures:
            raise Retry(delay=0.01)

    async def main() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.options(retries=2).add_task(task, 2)
        await queue()
        assert await runtime.adrain(PATIENCE) == []
        assert loops == [asyncio.get_running_loop()] * 3

    asyncio.run(main())
    loops.clear()

    async def end_between() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.options(retries=1).add_task(task, 1)
        await queue()

    asyncio.run(end_between())
    assert runtime.drain(PATIENCE) == []
    assert len({id(loop) for loop in loops}) == 2


def test_an_attempt_may_add_to_its_own_queue(runtime: Runtime, log: Log, flavour: Flavour) -> None:
    def task() -> None:
        queue.add_task(log.append, "added")
        queue.options(name="too").add_task(log.append, "too")
        if not flaky.failures:
            return
        raise flaky.failures.pop()

    flaky = Flaky(OSError())
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=1, backoff=lambda *_: 0.01).add_task(flavour(task))
    assert runtime.drain(PATIENCE) == []
    assert sorted(log) == ["added", "added", "too", "too"]


def test_a_function_that_returned_an_awaitable_is_called_again(runtime: Runtime, log: Log) -> None:
    async def awaited() -> None:
        log.append(1)
        if len(log) < 3:
            raise OSError

    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=2, **AT_ONCE).add_task(lambda: awaited())
    assert runtime.drain(PATIENCE) == []
    assert log == [1, 1, 1]


# Drains: promise 19.


@pytest.mark.parametrize("way", ["thread", "loop", "exit"])
def test_a_drain_gives_an_attempt_at_once(
    make_runtime: MakeRuntime, flavour: Flavour, way: str
) -> None:
    """That which waits, and each that comes to wait meanwhile."""
    runtime, events = outcomes_of(make_runtime)
    flaky = Flaky(OSError(), OSError(), OSError())
    waits = threading.Event()

    def task() -> None:
        try:
            flaky()
        finally:
            waits.set()

    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=3, backoff=lambda *_: NEVER).add_task(flavour(task))
    reached(waits)
    began = time.monotonic()
    if way == "thread":
        left = runtime.drain(PATIENCE)
    elif way == "loop":
        left = asyncio.run(runtime.adrain(PATIENCE))
    else:
        left = runtime.drain_at_exit(PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    assert left == []
    assert flaky.calls == 4
    assert events[-1] == ("succeeded", 4)


@pytest.mark.parametrize("where", [Later, Timer])
@pytest.mark.parametrize("asks", [False, True])
def test_a_drain_that_begins_just_as_a_task_comes_to_wait(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch, where: Any, asks: bool
) -> None:
    """It has looked at what waits before the task is there."""
    ends: queues.SimpleQueue[tuple[str, int]] = queues.SimpleQueue()

    def note(event: TaskEvent) -> None:
        if event.kind in ("succeeded", "abandoned"):
            ends.put((event.kind, event.attempt))

    runtime = make_runtime(on_event=note)
    wait_for = where.add
    with ExitStack() as drain:

        def add(place: Any, batch: Any, due: float) -> bool:
            later = runtime.scheduler.later
            drain.enter_context(later.draining(time.monotonic() + PATIENCE))
            added: bool = wait_for(place, batch, due)
            return added

        monkeypatch.setattr(where, "add", add)
        raised = Retry(delay=NEVER) if asks else OSError()
        with BackgroundTasks(runtime=runtime) as queue:
            options = queue.options(retries=1, backoff=lambda *_: NEVER, name="flaky")
            options.add_task(Flaky(raised))
        assert ends.get(timeout=PATIENCE) == ("abandoned" if asks else "succeeded", 2)
    assert runtime.drain(PATIENCE) == (["flaky"] if asks else [])


def test_a_drain_names_what_asks_for_a_time_that_is_too_late(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    runtime, events = outcomes_of(make_runtime)
    may_raise = threading.Event()

    def late() -> None:
        reached(may_raise)
        raise Retry(delay=NEVER)

    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=3, name="late").add_task(late)
    threading.Timer(0.05, may_raise.set).start()
    began = time.monotonic()
    assert runtime.drain(PATIENCE) == ["late"]
    assert time.monotonic() - began < PATIENCE / 2
    assert events[-1] == ("abandoned", 2)
    assert sum("abandoned" in line for line in warned()) == 1
    assert runtime.drain(PATIENCE) == []


def test_what_a_drain_has_given_up_is_not_tried_again(make_runtime: MakeRuntime) -> None:
    runtime, events = outcomes_of(make_runtime)
    may_raise, has_begun = threading.Event(), threading.Event()

    def task() -> None:
        has_begun.set()
        reached(may_raise)
        raise OSError

    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(retries=3, name="task", **AT_ONCE).add_task(task)
    reached(has_begun)
    assert runtime.drain(0) == ["task"]
    may_raise.set()
    while runtime.in_flight.in_use:  # until its worker has done with it
        time.sleep(0.001)
    assert [kind for kind, _ in events] == ["started", "abandoned"]


def test_at_the_end_of_the_process_an_attempt_is_made_at_once() -> None:
    printed = lines_of(
        """
        import logging, sys
        from bgadapters import BackgroundTasks, Retry
        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
        calls = []
        def task():
            calls.append(1)
            print("attempt", len(calls))
            if len(calls) < 3:
                raise OSError
        def asks():
            raise Retry(delay=1e6)
        with BackgroundTasks() as queue:
            queue.options(retries=5, backoff=lambda *_: 1e6, name="task").add_task(task)
            queue.options(retries=5, name="asks").add_task(asks)
        """
    )
    assert [line for line in printed if line.startswith("attempt")] == [
        f"attempt {number}" for number in (1, 2, 3)
    ]
    assert sum("abandoned" in line and line.endswith(": asks") for line in printed) == 1


@pytest.mark.parametrize("backoff", [0.0, 0.01])
def test_what_a_drain_has_given_up_while_it_is_told_is_not_tried_again(
    make_runtime: MakeRuntime, backoff: float
) -> None:
    left: list[list[str]] = []
    finished = threading.Event()

    def note(event: TaskEvent) -> None:
        if event.kind == "retrying":
            drain = threading.Thread(target=lambda: left.append(runtime.drain(0)))
            drain.start()
            drain.join()

    runtime = make_runtime(on_event=note)
    flaky = Flaky(OSError("one"))
    queue = BackgroundTasks(runtime=runtime)
    queue.options(retries=1, backoff=lambda *_: backoff, name="flaky").add_task(flaky)
    queue.release()
    assert not queue.batch.on_finished(finished.set) or finished.wait(PATIENCE)
    assert left == [["flaky"]]
    assert flaky.calls == 1


def test_where_nothing_could_wake_it_a_task_is_tried_again_at_once(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(host, "start_thread", refuse)
    runtime, events = outcomes_of(make_runtime)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(retries=1, backoff=lambda *_: NEVER).add_task(Flaky(OSError("one")))
    queue.release()
    assert events == [("started", 1), ("retrying", 1), ("started", 2), ("succeeded", 2)]


def test_what_a_task_returns_is_forgone_with_it(queue: BackgroundTasks) -> None:
    async def never_awaited() -> None: ...

    queue.options(retries=1).add_task(lambda: never_awaited())
    task = queue.batch.waiting[0]
    task.call().close()  # or Python would warn
    queue.close(KeyError())


def test_a_plain_task_has_no_time(queue: BackgroundTasks) -> None:
    queue.add_task(int)
    assert queue.batch.waiting[0].due() is None
    queue.close(KeyError())


@pytest.mark.parametrize("retries", [0, 1])
def test_an_attempt_whose_loop_was_closed_is_one_of_its_attempts(
    make_runtime: MakeRuntime, retries: int
) -> None:
    """Whoever closes a loop has not let it end; another one goes on."""
    runtime, events = outcomes_of(make_runtime)
    calls: list[int] = []

    async def flaky() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            await asyncio.Event().wait()

    loop = asyncio.new_event_loop()

    async def begin() -> None:
        queue = BackgroundTasks(runtime=runtime)
        given: Any = {"retries": retries, "retry_on": OSError, **AT_ONCE}
        queue.options(**given).add_task(flaky)
        queue.release()
        await asyncio.sleep(0)
        for each in asyncio.all_tasks():
            each._log_destroy_pending = False  # type: ignore[attr-defined]

    loop.run_until_complete(begin())
    loop.close()
    assert runtime.drain(PATIENCE) == []
    expected = [("retrying", 1), ("started", 2), ("succeeded", 2)] if retries else [("failed", 1)]
    assert (events, len(calls)) == ([("started", 1), *expected], 1 + retries)
