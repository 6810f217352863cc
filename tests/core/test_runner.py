"""How the tasks of a queue run: in order, isolated, each in its context, whoever runs them."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any
from unittest import mock

import pytest

from bgadapters import BackgroundTasks, QueueClosedError, add_task
from bgadapters.adapters import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from tests.core import ways
from tests.core.ways import Flavour, Log, Run

var: ContextVar[str] = ContextVar("var", default="unset")

INTERRUPTIONS = [
    ValueError("no"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(),
    BaseException("base"),
]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("an exception that cannot even be shown")


def failing(exception: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise exception

    return fail


def test_tasks_run_one_at_a_time_in_the_order_they_were_added(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    def note(n: int) -> None:
        log.append(("start", n))
        log.append(("end", n))

    anote = ways.as_coroutine_function(note)
    for n, func in enumerate([note, anote, anote, note, note, anote, note]):
        queue.add_task(func, n)

    run(queue)

    assert log == [(what, n) for n in range(7) for what in ("start", "end")]


def test_a_task_gets_its_arguments(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def note(*args: Any, **kwargs: Any) -> None:
        log.append((args, kwargs))

    queue.add_task(flavour(note))
    queue.add_task(flavour(note), 1, "two")
    queue.add_task(flavour(note), 1, message="hello", name="mine", always="too")

    run(queue)

    assert log == [
        ((), {}),
        ((1, "two"), {}),
        ((1,), {"message": "hello", "name": "mine", "always": "too"}),
    ]


@pytest.mark.parametrize("exception", INTERRUPTIONS, ids=repr)
def test_a_failing_task_does_not_stop_the_tasks_after_it(
    exception: BaseException,
    run: Run,
    flavour: Flavour,
    queue: BackgroundTasks,
    log: Log,
    errors: Callable[[], list[str]],
) -> None:
    queue.add_task(log.append, "before")
    queue.add_task(flavour(failing(exception)))
    queue.add_task(flavour(log.append), "after")
    queue.add_task(log.append, "last")

    run(queue)

    assert log == ["before", "after", "last"]
    assert len(errors()) == 1
    assert errors()[0].startswith("Background task tests.core.test_runner.failing.<locals>.fail")


def test_a_failing_task_whose_exception_cannot_be_shown_does_not_stop_the_tasks_after_it(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    queue.options(name="mine").add_task(flavour(failing(Unprintable())))
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["after"]
    assert errors() == ["Background task mine failed: Unprintable"]


def test_a_task_that_cancels_the_asyncio_task_it_runs_in_fails_by_itself(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def cancel_this() -> None:
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
        await asyncio.sleep(60)

    queue.add_task(cancel_this)
    queue.add_task(log.append, "sync")
    queue.add_task(ways.as_coroutine_function(log.append), "async")

    run(queue)

    assert log == ["sync", "async"]


def test_a_task_that_awaits_something_cancelled_fails_by_itself(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def await_cancelled() -> None:
        child = asyncio.ensure_future(asyncio.sleep(60))
        child.cancel()
        await child

    async def loop_of_the_task() -> None:
        log.append(asyncio.get_running_loop())

    for task in (loop_of_the_task, await_cancelled, loop_of_the_task):
        queue.add_task(task)

    run(queue)

    assert len(log) == 2
    assert log[0] is log[1]  # so the loop's driver was not taken for cancelled


def test_a_task_that_runs_out_of_its_own_time_limit_fails_by_itself(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def too_slow() -> None:
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(60)
        except TimeoutError:
            log.append("timeout")

    queue.add_task(too_slow)
    queue.add_task(ways.as_coroutine_function(log.append), "after")

    run(queue)

    assert log == ["timeout", "after"]


def test_a_task_sees_the_context_variables_of_the_moment_it_was_added(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def note() -> None:
        log.append(var.get())

    token = var.set("then")
    queue.add_task(flavour(note))
    var.set("a little later")
    queue.add_task(flavour(note))
    var.set("now")
    run(queue)
    var.reset(token)

    assert log == ["then", "a little later"]


def test_what_a_task_sets_is_seen_by_no_other_task(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def change() -> None:
        log.append(var.get())
        var.set("changed")

    queue.add_task(flavour(change))
    queue.add_task(flavour(change))

    run(queue)

    assert log == ["unset", "unset"]
    assert var.get() == "unset"


def test_an_async_task_keeps_its_context_in_every_await(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def deeper(label: str) -> None:
        log.append((label, var.get()))
        await asyncio.sleep(0)
        log.append((label, var.get()))

    async def task() -> None:
        await deeper("awaited")
        await asyncio.create_task(deeper("child"))
        asyncio.get_running_loop().call_soon(lambda: log.append(("callback", var.get())))
        await asyncio.to_thread(lambda: log.append(("thread", var.get())))
        var.set("set inside")
        await asyncio.sleep(0)
        log.append(("after", var.get()))

    token = var.set("then")
    queue.add_task(task)
    var.reset(token)

    run(queue)

    assert set(log) == {
        ("awaited", "then"),
        ("child", "then"),
        ("callback", "then"),
        ("thread", "then"),
        ("after", "set inside"),
    }


def test_what_a_task_returns_unawaited_is_awaited_in_its_context(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    async def inner() -> None:
        await asyncio.sleep(0)
        log.append(var.get())

    token = var.set("then")
    queue.add_task(flavour(inner))
    var.reset(token)
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["then", "after"]


def test_a_coroutine_in_a_coroutine_in_a_coroutine_is_awaited_to_its_end(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def inner() -> None:
        log.append("inner")

    async def middle() -> Any:
        return inner()

    async def outer() -> Any:
        return middle()

    queue.add_task(outer)
    queue.add_task(lambda: outer())
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["inner", "inner", "after"]


@pytest.mark.parametrize("last", [True, False], ids=["last", "not last"])
def test_a_task_that_returns_an_awaitable_is_done_when_that_is(
    last: bool, run: Run, queue: BackgroundTasks, log: Log
) -> None:
    queue.add_task(lambda: ways.as_coroutine_function(log.append)("awaited"))
    if not last:
        queue.add_task(log.append, "after")

    run(queue)

    assert log == ["awaited", "after"][: 1 if last else 2]


def test_a_failure_of_what_a_task_returns_is_the_failure_of_that_task(
    run: Run, queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    afail = ways.as_coroutine_function(failing(ValueError("late")))
    queue.options(name="mine").add_task(lambda: afail())
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["after"]
    assert errors() == ["Background task mine failed: ValueError: late"]


class _Awaitable:
    """One whose iterator knows nothing but its next step, as the language allows."""

    def __init__(self, log: Log, value: str) -> None:
        self._log, self._value = log, value

    def __await__(self) -> Any:
        self._log.append(self._value)
        return iter([None])


class _Methods:
    def __init__(self, log: Log) -> None:
        self.log = log

    def sync(self, value: str) -> None:
        self.log.append(value)

    async def asynchronous(self, value: str) -> None:
        await asyncio.sleep(0)
        self.log.append(value)


class _Callable(_Methods):
    __call__ = _Methods.sync


class _AsyncCallable(_Methods):
    __call__ = _Methods.asynchronous


def _callables(log: Log) -> dict[str, Callable[..., Any]]:
    def function(value: str) -> None:
        log.append(value)

    async def coroutine_function(value: str) -> None:
        await asyncio.sleep(0)
        log.append(value)

    class Class:
        def __init__(self, value: str) -> None:
            log.append(value)

    methods = _Methods(log)
    with_attributes = partial(coroutine_function)
    function.attribute = 1  # type: ignore[attr-defined]
    return {
        "function": function,
        "coroutine function": coroutine_function,
        "lambda": lambda value: log.append(value),
        "lambda that returns a coroutine": lambda value: coroutine_function(value),
        "lambda that returns another awaitable": lambda value: _Awaitable(log, value),
        "partial": partial(function),
        "partial of a partial": partial(partial(function)),
        "partial of a coroutine function": partial(with_attributes),
        "bound method": methods.sync,
        "bound async method": methods.asynchronous,
        "object with __call__": _Callable(log),
        "object with async __call__": _AsyncCallable(log),
        "partial of an object with async __call__": partial(_AsyncCallable(log)),
        "built-in": log.append,
        "class": Class,
        "static method": staticmethod(coroutine_function),
        "Mock": mock.Mock(side_effect=function),
        "MagicMock": mock.MagicMock(side_effect=function),
        "AsyncMock": mock.AsyncMock(side_effect=function),
    }


@pytest.mark.parametrize("kind", _callables([]))
def test_any_callable_runs(kind: str, run: Run, queue: BackgroundTasks, log: Log) -> None:
    queue.add_task(_callables(log)[kind], "called")
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["called", "after"]


def test_a_wrong_argument_fails_the_task_alone(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    def takes_none() -> None: ...

    def passes_on(*args: object) -> None:  # so that nobody could tell before
        takes_none(*args)

    queue.add_task(flavour(passes_on), "too many")
    queue.add_task(log.append, "after")

    run(queue)

    assert log == ["after"]
    assert "TypeError" in errors()[0]


def test_an_awaitable_that_belongs_to_another_loop_fails_by_itself(
    run: Run, queue: BackgroundTasks, log: Log, errors: Callable[[], list[str]]
) -> None:
    other = asyncio.new_event_loop()
    future: asyncio.Future[None] = other.create_future()
    queue.add_task(lambda: future)
    queue.add_task(log.append, "after")

    run(queue)
    other.close()

    assert log == ["after"]
    assert len(errors()) == 1


def test_a_task_may_add_tasks_to_its_own_queue_and_they_run_last(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def first() -> None:
        queue.add_task(flavour(second), "added inside")
        queue.add_task(log.append, "added inside too")
        log.append("first")

    def second(value: str) -> None:
        log.append(value)
        if value == "added inside":
            queue.add_task(flavour(second), "added inside that")

    queue.add_task(flavour(first))
    queue.add_task(log.append, "last of the response")

    run(queue)

    assert log == [
        "first",
        "last of the response",
        "added inside",
        "added inside too",
        "added inside that",
    ]


def test_add_task_inside_a_task_adds_to_the_queue_that_runs_it(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def outer() -> None:
        add_task(log.append, "added inside")

    with queue:  # released below, by hand
        queue.add_task(flavour(outer))
        queue.add_task(log.append, "after")
        run(queue)

    assert log == ["after", "added inside"]


def test_a_task_may_add_through_the_threads_and_tasks_it_starts(
    run: Run, queue: BackgroundTasks, log: Log
) -> None:
    async def add(value: str) -> None:
        queue.add_task(log.append, value)

    async def task() -> None:
        await asyncio.to_thread(queue.add_task, log.append, "from its thread")
        await asyncio.create_task(add("from its task"))

    queue.add_task(task)

    run(queue)

    assert log == ["from its thread", "from its task"]


def test_a_foreign_thread_may_not_add_to_a_released_queue(
    run: Run, flavour: Flavour, queue: BackgroundTasks, log: Log
) -> None:
    def add_from_elsewhere() -> None:
        with pytest.raises(QueueClosedError, match=r"list\.append: .* was released\. Add tasks"):
            queue.add_task(log.append, "never")
        log.append("refused")

    def start_a_thread() -> None:
        empty = contextvars.Context()
        thread = threading.Thread(target=empty.run, args=(add_from_elsewhere,))
        thread.start()
        thread.join()

    queue.add_task(flavour(start_a_thread))

    run(queue)

    assert log == ["refused"]


def test_a_task_of_one_queue_may_not_add_to_another_that_is_released(
    flavour: Flavour, runtime: Runtime, log: Log
) -> None:
    one, other = BackgroundTasks(runtime=runtime), BackgroundTasks(runtime=runtime)
    tried, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        ways.reached(tried)

    def intrude() -> None:
        try:
            with pytest.raises(QueueClosedError):
                other.add_task(log.append, "never")
            log.append("refused")
        finally:
            tried.set()

    other.add_task(hold)
    other.release()
    ways.reached(started)
    one.add_task(flavour(intrude))
    ways.in_threads(one)

    assert log == ["refused"]


def test_a_task_that_adds_itself_without_end_is_bounded(
    run: Run,
    flavour: Flavour,
    make_runtime: ways.MakeRuntime,
    log: Log,
    errors: Callable[[], list[str]],
) -> None:
    queue = BackgroundTasks(runtime=make_runtime(max_pending=5))

    def again() -> None:
        log.append("ran")
        queue.options(name="again").add_task(flavour(again))

    queue.add_task(flavour(again))

    run(queue)

    assert log == ["ran"] * 6
    assert len(errors()) == 1
    assert "cannot add again: the tasks of this queue have added 5 tasks to it" in errors()[0]


def test_a_task_added_at_the_last_moment_still_runs(
    queue: BackgroundTasks, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that a task started adds one after the batch, before the queue has finished."""
    finish = Batch.finish

    def add_and_finish(self: Batch) -> Any:
        if log == [1]:
            context = contextvars.copy_context()
            context.run(owner.set, self)
            context.run(queue.add_task, log.append, 2)
        return finish(self)

    monkeypatch.setattr(Batch, "finish", add_and_finish)
    queue.add_task(log.append, 1)
    ways.in_threads(queue)
    assert log == [1, 2]


def test_tasks_of_different_queues_run_side_by_side(flavour: Flavour, runtime: Runtime) -> None:
    meeting = threading.Barrier(2)
    both_loops = asyncio.Event()
    arrived: Log = []

    def meet() -> None:
        meeting.wait(ways.PATIENCE)

    async def ameet() -> None:
        arrived.append(None)
        if len(arrived) == 2:
            both_loops.set()
        await asyncio.wait_for(both_loops.wait(), ways.PATIENCE)

    task: Callable[[], Any] = meet if flavour(meet) is meet else ameet
    failures: Log = []
    queues = [BackgroundTasks(runtime=runtime) for _ in range(2)]
    for queue in queues:
        queue.add_task(task)
        queue.add_task(failures.append, None)
    for queue in queues:
        queue.release()

    assert runtime.drain(ways.PATIENCE) == []
    assert not meeting.broken
    assert len(failures) == 2


def test_a_sync_task_never_blocks_the_event_loop(queue: BackgroundTasks, log: Log) -> None:
    started, answered = threading.Event(), threading.Event()

    def wait_for_the_loop() -> None:
        started.set()
        log.append(answered.wait(ways.PATIENCE))

    async def main() -> None:
        queue.add_task(wait_for_the_loop)
        queue.add_task(lambda: wait_for_the_loop())
        queue.release()
        while not started.is_set():
            await asyncio.sleep(0)
        answered.set()
        await queue()

    asyncio.run(main())

    assert log == [True, True]


def test_consecutive_sync_tasks_travel_to_a_worker_in_one_hop(
    runtime: Runtime, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = runtime.scheduler.pool
    submit = mock.Mock(side_effect=pool.submit)
    monkeypatch.setattr(pool, "submit", submit)
    queue = BackgroundTasks(runtime=runtime)

    def note() -> None:
        log.append(threading.current_thread().name)

    anote = ways.as_coroutine_function(note)
    for task in [*[note] * 10, anote, anote, *[note] * 10]:
        queue.add_task(task)

    ways.awaited(queue)

    assert submit.call_count == 2
    assert [name.startswith("bgadapters-") for name in log] == [True] * 10 + [False] * 2 + [
        True
    ] * 10


def test_async_tasks_run_on_the_loop_that_released_them(queue: BackgroundTasks, log: Log) -> None:
    async def note_loop() -> None:
        log.append(asyncio.get_running_loop())

    async def main() -> None:
        tasks: list[Callable[..., Any]] = [note_loop, int, note_loop, lambda: note_loop()]
        for task in tasks:
            queue.add_task(task)
        await queue()
        log.append(asyncio.get_running_loop())

    asyncio.run(main())

    assert len(log) == 4
    assert len(set(map(id, log))) == 1


@pytest.mark.parametrize("sync_first", [False, True])
def test_without_a_server_loop_async_tasks_share_one_that_lives_on(
    sync_first: bool, runtime: Runtime, log: Log
) -> None:
    async def note_loop() -> None:
        log.append((asyncio.get_running_loop(), threading.current_thread().name))

    for _ in range(3):
        queue = BackgroundTasks(runtime=runtime)
        if sync_first:
            queue.add_task(int)
        queue.add_task(note_loop)
        queue.add_task(lambda: note_loop())
        ways.in_threads(queue)

    assert len(log) == 6
    assert len({id(loop) for loop, _ in log}) == 1
    assert {name for _, name in log} == {"bgadapters-loop"}
