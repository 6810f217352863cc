"""What becomes of a batch that cannot be run, or whose driver fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from typing import Any

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Batch, FrameworkHooks, Precondition, Runtime, answer_check
from bgadapters.core.app import drainer
from bgadapters.core.drivers import threads
from bgadapters.core.drivers.async_runner import run_async_tasks
from bgadapters.core.drivers.origin_loop import LoopCarrier
from bgadapters.core.drivers.pool import Pool
from bgadapters.core.model import guard
from bgadapters.core.model.mode import SERVING
from tests.core.ways import PATIENCE, Log, MakeRuntime, reached


async def atask(log: Log) -> None:
    log.append("async")


def test_without_a_file_descriptor_for_a_loop_async_tasks_fail_and_the_others_run(
    queue: BackgroundTasks,
    log: Log,
    errors: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    returned: list[Coroutine[Any, Any, None]] = []

    def returns_a_coroutine() -> Coroutine[Any, Any, None]:
        returned.append(atask(log))
        return returned[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    queue.options(name="one").add_task(atask, log)
    queue.add_task(log.append, "sync")
    queue.options(name="two").add_task(returns_a_coroutine)
    queue.add_task(log.append, "last")
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["sync", "last"]
    why = "OSError: [Errno 24] Too many open files"
    assert errors() == [f"Background task {name} failed: {why}" for name in ("one", "two")]
    assert inspect.getcoroutinestate(returned[0]) == inspect.CORO_CLOSED


def test_without_a_file_descriptor_for_an_import_async_tasks_fail_and_the_others_run(
    queue: BackgroundTasks,
    log: Log,
    errors: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Refusing:
        def find_spec(self, name: str, *_: object) -> None:
            if name in modules:
                raise OSError(24, "Too many open files")

    modules = [f"bgadapters.core.drivers.{name}" for name in ("background_loop", "async_runner")]
    for name in modules:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    queue.options(name="one").add_task(atask, log)
    queue.add_task(log.append, "sync")
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert log == ["sync"]
    assert errors() == ["Background task one failed: OSError: [Errno 24] Too many open files"]
    monkeypatch.undo()  # for the end of the test: what it stops was never started


def test_a_batch_whose_driver_fails_is_ended_and_named(
    queue: BackgroundTasks,
    errors: Callable[[], list[str]],
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(threads, "run_sync_tasks", fail)
    queue.options(name="it").add_task(print)
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []
    assert errors() == ["Running background tasks has failed"]
    assert warned() == ["1 background task(s) discarded, running them has failed: it"]


def test_a_hook_that_is_told_between_two_tasks_cannot_drain(
    make_runtime: MakeRuntime,
    errors: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is called by whoever runs the tasks, who would wait for himself."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    def drain(event: TaskEvent) -> None:
        if event.kind == "discarded":
            runtime.drain(PATIENCE)

    monkeypatch.setattr(threads, "run_sync_tasks", fail)
    runtime = make_runtime(on_event=drain)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(name="it").add_task(print)
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert errors()[1:] == ["The hook for the event 'discarded' of it failed"]


def test_a_job_that_raises_costs_no_worker(errors: Callable[[], list[str]]) -> None:
    def fail() -> None:
        raise SystemExit

    done: list[str] = []
    pool = Pool(1, lambda: done.append("idle"))
    assert pool.submit(fail)
    assert pool.submit(lambda: done.append("job"))
    pool.idle(PATIENCE)
    assert done == ["job", "idle"]
    assert errors() == ["A worker thread has caught what it should not"]


def test_a_clean_up_that_raises_is_told(errors: Callable[[], list[str]]) -> None:
    failures: list[BaseException] = [SystemExit()]

    def fail_once() -> None:
        if failures:  # the worker outlives this test, and cleans up once more when it is idle
            raise failures.pop()

    pool = Pool(1, fail_once)
    assert pool.submit(lambda: None)
    pool.idle(PATIENCE)
    assert errors() == ["The clean-up of an idle worker failed"]


def test_where_the_log_itself_raises_standard_error_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise SystemExit("no log")

    broken = Broken()
    guard.logger.addHandler(broken)
    try:
        guard.log(logging.ERROR, "%s failed", "it", exc_info=ValueError("why"))
    finally:
        guard.logger.removeHandler(broken)
    written = capsys.readouterr().err
    assert written.startswith("it failed\n")
    assert "ValueError: why" in written
    assert "no log" in written


def test_what_a_sync_task_returned_is_awaited_in_the_scope_of_async_tasks(
    make_runtime: MakeRuntime, log: Log
) -> None:
    @contextmanager
    def scope() -> Any:
        log.append("enter")
        yield
        log.append("leave")

    queue = BackgroundTasks(runtime=make_runtime(scope=scope))
    queue.add_task(lambda: atask(log))
    queue.release()
    queue.runtime.drain(PATIENCE)
    assert log == ["enter", "leave", "enter", "async", "leave"]


def test_whoever_runs_async_tasks_may_be_cancelled(queue: BackgroundTasks, log: Log) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        queue.options(name="waits").add_task(wait)
        queue.batch.release(queue.release)
        running = asyncio.ensure_future(
            run_async_tasks(queue.batch, queue.runtime.scheduler.execution)
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
    assert len(queue) == 0


def test_a_loop_that_is_closed_before_it_took_a_batch_over_costs_nothing(
    make_runtime: MakeRuntime, log: Log
) -> None:
    """The batch that a worker hands back is taken by the drain, and once."""
    runtime = make_runtime()
    loop = asyncio.new_event_loop()
    handed: list[Any] = []
    is_handed = threading.Event()

    def hand_over(*call: Any) -> None:
        handed.append(call)
        is_handed.set()

    loop.call_soon_threadsafe = hand_over  # type: ignore[method-assign,assignment]
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(lambda: atask(log))
    loop.call_soon(queue.release)
    loop.call_soon(loop.stop)
    loop.run_forever()
    reached(is_handed)
    loop.close()
    assert runtime.drain(PATIENCE) == []
    assert log == ["async"]
    ((take_over,),) = handed
    take_over()  # too late
    assert log == ["async"]


def test_a_loop_that_a_task_has_closed_is_replaced_by_another(
    queue: BackgroundTasks, runtime: Runtime, log: Log
) -> None:
    async def note() -> None:
        log.append(asyncio.get_running_loop())

    for each in (queue, BackgroundTasks(runtime=runtime)):
        each.add_task(note)
        each.release()
        assert runtime.drain(PATIENCE) == []
        runtime.scheduler.background.stop()
    first, second = log
    assert first is not second


def test_async_tasks_that_a_task_adds_and_whose_precondition_fails_do_not_run(log: Log) -> None:
    made: list[Precondition] = []

    def preconditions(batch: Batch) -> list[Precondition]:
        return [made.pop()] if made else []

    async def adds() -> None:
        failed = Precondition()
        failed.resolve(False)
        made.append(failed)
        queue.add_task(atask, log)
        queue.add_task(atask, log)

    runtime = Runtime(hooks=FrameworkHooks(preconditions=preconditions))
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(adds)
    queue.release()
    assert runtime.drain(PATIENCE) == []
    runtime.scheduler.background.stop()
    assert log == ["async"]


def test_a_drain_of_more_than_a_second_looks_for_closed_loops_again(
    queue: BackgroundTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer, "_POLL_INTERVAL", 0.01)
    go_on = threading.Event()
    queue.add_task(go_on.wait, PATIENCE)
    queue.release()
    threading.Timer(0.05, go_on.set).start()
    assert queue.runtime.drain(PATIENCE) == []

    async def main() -> None:
        slow = BackgroundTasks(runtime=queue.runtime)
        slow.add_task(asyncio.sleep, 0.05)
        slow.release()
        assert await queue.runtime.adrain(PATIENCE) == []

    asyncio.run(main())


def test_what_was_handed_over_and_not_begun_has_nothing_to_cancel(queue: BackgroundTasks) -> None:
    LoopCarrier(queue.runtime.scheduler.loops, queue.batch).abandon()


def test_the_serving_mode_intercepts_nothing(queue: BackgroundTasks) -> None:
    assert not SERVING.intercepts(queue.batch, queue.runtime.scheduler)


def test_a_process_that_has_not_opted_in_answers_no_check(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    answer_check(queue, "token:1", "place")
    assert len(queue) == 0
    assert queue.batch  # empty or not


def test_an_old_name_says_the_new_one(queue: BackgroundTasks) -> None:
    old: Any = queue
    with pytest.raises(AttributeError, match=r"BackgroundTasks\.drop is called discard now"):
        old.drop(KeyError())
    with pytest.raises(AttributeError, match="has no attribute 'never'"):
        _ = old.never
