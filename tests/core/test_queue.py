"""The queue of one response: open, then released or discarded, once."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import BackgroundTasks, QueueClosedError, QueueFullError, drain
from bgadapters.adapters import Runtime
from tests.core.ways import PATIENCE, Log, MakeRuntime, Run, in_threads, reached


def test_a_queue_says_what_it_is(queue: BackgroundTasks, log: Log) -> None:
    assert (len(queue), bool(queue), queue.is_open) == (0, True, True)
    queue.add_task(log.append, 1)
    assert (len(queue), repr(queue)) == (1, "<BackgroundTasks open, 1 waiting>")
    in_threads(queue)
    assert (len(queue), queue.is_open) == (0, False)
    assert repr(queue) == "<BackgroundTasks released and finished, 0 waiting>"


def test_released_twice_it_runs_once(queue: BackgroundTasks, log: Log, run: Run) -> None:
    queue.add_task(log.append, 1)
    run(queue)
    queue.release()
    asyncio.run(queue.arelease())
    drain()
    assert log == [1]


def test_released_by_many_threads_at_once_it_runs_once(runtime: Runtime, log: Log) -> None:
    for number in range(20):
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(log.append, number)
        barrier = threading.Barrier(4)

        def release(queue: BackgroundTasks, barrier: threading.Barrier) -> None:
            barrier.wait()
            queue.release()

        threads = [threading.Thread(target=release, args=(queue, barrier)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert runtime.drain() == []
    assert sorted(log) == list(range(20))


@pytest.mark.parametrize("end", ["release", "discard"])
def test_a_task_that_comes_too_late_is_refused(queue: BackgroundTasks, end: str) -> None:
    if end == "release":
        queue.release()
    else:
        queue.close(KeyError("view"))
    with pytest.raises(QueueClosedError, match=r"cannot add builtins\.print: the queue .* was "):
        queue.add_task(print)
    with pytest.raises(RuntimeError):
        queue.options(name="late").add_task(print)


def test_a_discard_counts_and_names_in_one_warning(
    queue: BackgroundTasks, log: Log, warned: Callable[[], list[str]]
) -> None:
    queue.add_task(log.append, 1)
    queue.options(name="audit").add_task(log.append, 2)
    queue.close(KeyError("view"))
    queue.close(KeyError("again"))
    queue.discard(KeyError("and again"))
    queue.release()
    drain()
    assert log == []
    assert warned() == [
        "2 background task(s) discarded, the response failed with KeyError: 'view': "
        "list.append, audit"
    ]


def test_many_discarded_tasks_are_counted_and_the_first_named(
    queue: BackgroundTasks, warned: Callable[[], list[str]]
) -> None:
    for _ in range(25):
        queue.add_task(print)
    queue.discard(KeyError())
    assert warned()[0].startswith("25 background task(s) discarded, the response failed with K")
    assert warned()[0].endswith("builtins.print and 5 more")


def test_always_runs_though_the_response_failed(queue: BackgroundTasks, log: Log) -> None:
    queue.add_task(log.append, "never")
    queue.options(always=True).add_task(log.append, "always")
    queue.close(KeyError())
    drain()
    assert log == ["always"]


def test_a_dropped_queue_is_open_for_what_is_sent_instead(
    queue: BackgroundTasks, log: Log, run: Run, warned: Callable[[], list[str]]
) -> None:
    queue.discard(KeyError("nothing to drop, nothing to say"))
    queue.add_task(log.append, "view")
    queue.discard(KeyError())
    queue.add_task(log.append, "error page")
    run(queue)
    assert log == ["error page"]
    assert len(warned()) == 1


def test_a_block_releases_at_its_end_and_discards_if_it_raises(runtime: Runtime, log: Log) -> None:
    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(log.append, "kept")
    with pytest.raises(KeyError), BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(log.append, "discarded")
        raise KeyError
    assert runtime.drain() == []
    assert log == ["kept"]


def test_an_async_block_waits_for_its_tasks(runtime: Runtime, log: Log) -> None:
    async def main() -> None:
        async with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(log.append, 1)
        assert log == [1]
        with pytest.raises(KeyError):
            async with BackgroundTasks(runtime=runtime) as tasks:
                tasks.add_task(log.append, 2)
                raise KeyError

    asyncio.run(main())
    assert log == [1]


def test_an_empty_queue_has_nothing_to_wait_for(queue: BackgroundTasks) -> None:
    asyncio.run(queue.arelease())
    assert not queue.is_open


def test_a_queue_never_released_says_so(
    make_runtime: MakeRuntime, warned: Callable[[], list[str]]
) -> None:
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # what other tests have left has its say before
    before = len(warned())
    runtime = make_runtime(on_full="reject")
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(print)
    assert runtime.in_flight.in_use == 1
    with pytest.warns(ResourceWarning, match=r"1 background task\(s\) never ran .builtins.print"):
        del queue
        gc.collect()
    assert runtime.in_flight.in_use == 0
    (said,) = warned()[before:]
    assert "their queue was never released" in said


def test_a_queue_that_could_not_be_made_has_nothing_to_say() -> None:
    with pytest.raises(TypeError):
        BackgroundTasks(nothing=1)  # type: ignore[call-arg]


def test_reject_keeps_its_bound_whoever_adds(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(max_pending=50, on_full="reject")
    queues = [BackgroundTasks(runtime=runtime) for _ in range(4)]
    refused: Log = []

    def add(queue: BackgroundTasks) -> None:
        for _ in range(25):
            try:
                queue.add_task(log.append, 1)
            except QueueFullError as error:
                refused.append(error)

    threads = [threading.Thread(target=add, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 50
    assert "50 tasks wait or run already (max_pending)" in str(refused[0])
    for queue in queues[1:]:
        queue.release()
    queues[0].discard(KeyError())
    assert runtime.drain() == []
    assert runtime.in_flight.in_use == 0


def test_reject_holds_for_what_a_task_adds(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(max_pending=2, on_full="reject")
    queue = BackgroundTasks(runtime=runtime)

    def add_two() -> None:
        queue.add_task(log.append, "fits")
        with pytest.raises(QueueFullError):
            queue.add_task(log.append, "does not")

    queue.add_task(add_two)
    in_threads(queue)
    assert log == ["fits"]


def test_a_full_backlog_keeps_the_releasing_thread_but_does_not_make_it_work(
    make_runtime: MakeRuntime, log: Log
) -> None:
    runtime = make_runtime(max_pending=1, max_workers=1)
    busy, go_on = threading.Event(), threading.Event()
    first, second = BackgroundTasks(runtime=runtime), BackgroundTasks(runtime=runtime)

    async def on_the_loop() -> None:
        log.append("async")

    def hold() -> None:
        busy.set()
        reached(go_on)

    first.add_task(hold)
    first.release()
    reached(busy)
    second.add_task(on_the_loop)
    second.add_task(lambda: log.append(threading.current_thread()))

    def release() -> None:
        second.release()
        log.append("released")

    releasing = threading.Thread(target=release)
    releasing.start()
    while not log:  # async tasks do not need a worker
        assert releasing.is_alive()
    assert log == ["async"]
    go_on.set()
    releasing.join(PATIENCE)
    assert runtime.drain() == []
    assert log.index("released")
    assert releasing not in log


def test_a_task_that_releases_a_queue_of_its_own_does_not_run_it_itself(
    make_runtime: MakeRuntime, log: Log
) -> None:
    runtime = make_runtime(max_pending=1, max_workers=1)

    def nested() -> None:
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(log.append, "inner")
        log.append("outer")

    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(nested)
    assert runtime.drain() == []
    assert log == ["outer", "inner"]


def test_a_task_that_is_just_being_taken_is_left_once(queue: BackgroundTasks) -> None:
    """A runner notes a task before it takes it out, and a drain may come in between."""
    queue.add_task(print, "first")
    queue.add_task(print, "second")
    first, second = queue.batch.left()
    queue.batch.running = first
    assert queue.batch.left() == [first, second]
    queue.batch.running = None
    queue.release()


def test_a_queue_that_a_drain_has_emptied_starts_nothing(queue: BackgroundTasks) -> None:
    assert not queue.batch.needs_loop()


def test_what_is_added_while_an_exception_is_answered_is_not_what_failed(
    queue: BackgroundTasks,
) -> None:
    ran: list[str] = []

    def view() -> None:
        queue.add_task(ran.append, "view")
        try:
            raise KeyError
        except KeyError:
            queue.add_task(ran.append, "view, which raises it again")
            raise

    try:
        view()
    except KeyError as exc:
        queue.add_task(ran.append, "handler")
        queue.discard(exc)
    queue.release()
    drain()
    assert ran == ["handler"]


def test_what_is_added_while_another_exception_is_handled_is_discarded(
    queue: BackgroundTasks,
) -> None:
    ran: list[str] = []
    try:
        try:
            raise KeyError
        except KeyError:
            queue.add_task(ran.append, "view")
        raise ValueError
    except ValueError as exc:
        queue.discard(exc)
    queue.release()
    assert ran == []


def test_a_part_may_fail_and_what_was_there_before_stays(queue: BackgroundTasks) -> None:
    ran: list[str] = []
    queue.add_task(ran.append, "before")
    since = len(queue)
    queue.add_task(ran.append, "failed")
    queue.options(always=True).add_task(ran.append, "always")
    queue.discard(ValueError(), since)
    queue.release()
    drain()
    assert ran == ["before", "always"]


class Given:
    """As Starlette's BackgroundTask."""

    def __init__(self, func: Any, *args: Any, **kwargs: Any) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs


def test_a_queue_begins_with_the_tasks_that_it_is_given(runtime: Runtime, log: Log) -> None:
    tasks = [Given(log.append, "first"), Given(log.extend, ["second"])]
    with BackgroundTasks(tasks, runtime=runtime) as queue:
        queue.add_task(log.append, "third")
    runtime.drain()
    assert log == ["first", "second", "third"]


@pytest.mark.parametrize("given", [print, [print], [("print", (), {})], 1])
def test_what_are_no_tasks_is_refused(runtime: Runtime, given: Any) -> None:
    with pytest.raises(TypeError, match="accepts a list of tasks that have func, args and kwargs"):
        BackgroundTasks(given, runtime=runtime)


def test_a_queue_whose_first_tasks_are_refused_has_none(
    runtime: Runtime, warned: Callable[[], list[str]]
) -> None:
    with pytest.raises(TypeError, match="cannot call"):
        BackgroundTasks([Given(print), Given(reached)], runtime=runtime)
    (warning,) = warned()
    assert "1 background task(s) discarded, the response failed with TypeError" in warning


def test_the_tasks_that_wait_can_be_looked_at(queue: BackgroundTasks) -> None:
    queue.add_task(print, 1, end="")
    queue.options(name="other").add_task(len, [])
    first, second = queue.tasks
    assert (first.func, first.args, first.kwargs) == (print, (1,), {"end": ""})
    assert (second.func, second.args, second.kwargs) == (len, ([],), {})
    queue.close(LookupError())
    assert queue.tasks == ()


def test_a_part_that_failed_is_told_by_its_tasks(queue: BackgroundTasks, log: Log) -> None:
    """Whatever was added meanwhile, also what leaves the order."""
    for each in (queue, queue.options(priority=1)):
        for number in (1, 2):
            each.add_task(log.append, number)
    queue.discard(KeyError(), which=lambda task: task.args == (1,))
    queue.release()
    drain()
    assert log == [2, 2]
