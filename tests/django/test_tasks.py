"""The backend for Django's tasks framework and its backport: the frameworks' contract."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import override_settings
from django.utils import timezone, translation

import bgadapters
from bgadapters import BackgroundTasks, QueueFullError, add_task
from bgadapters.adapters import PreconditionFailedError
from bgadapters.django import background_tasks, task_results
from bgadapters.django.runtime import get_runtime
from bgadapters.django.task_results import NotRunError
from bgadapters.testing import capture_tasks
from tests.core.ways import PATIENCE, reached
from tests.django import task_functions as functions
from tests.django.serving import Site
from tests.django.task_frameworks import PACKAGES, SIGNALS, Tasks, missing, pid
from tests.our_log import OurLog

log = functions.log


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    log.clear()
    functions.enqueue.clear()
    functions.started.clear()
    functions.go_on.clear()
    yield
    functions.go_on.set()
    bgadapters.drain(PATIENCE)
    connections.close_all()


@pytest.fixture(params=PACKAGES)
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    """A framework, its default backend being ours."""
    if why := missing(request.param):
        pytest.skip(why)
    with ExitStack() as stack:
        yield Tasks(request.param, lambda **s: stack.enter_context(override_settings(**s)))


@pytest.fixture
def told(tasks: Tasks) -> Iterator[list[Any]]:
    """The signals that were sent: name, status then, the whole result, its sender."""
    heard: list[Any] = []

    def listener(name: str) -> Callable[..., None]:
        def receive(sender: Any, task_result: Any, **_: Any) -> None:
            heard.append((name, str(task_result.status), task_result, sender))

        return receive

    receivers = {name: listener(name) for name in SIGNALS}
    for name, receiver in receivers.items():
        tasks.signals[name].connect(receiver)
    yield heard
    for name, receiver in receivers.items():
        tasks.signals[name].disconnect(receiver)


def flavours(plain: Any, coroutine: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("func", [plain, coroutine], ids=["plain", "async"])


def finished(result: Any) -> Any:
    """The same result when everything has run."""
    assert bgadapters.drain(PATIENCE) == []
    result.refresh()
    return result


def states(told: list[Any]) -> list[tuple[str, str]]:
    return [(name, status) for name, status, *_ in told]


# The life of a task


@flavours(functions.note, functions.anote)
def test_a_task_succeeds(tasks: Tasks, told: list[Any], func: Any) -> None:
    task = tasks.task(func)
    before = timezone.now()
    result = task.enqueue("it", more=(1, b"two"))
    assert (str(result.status), result.is_finished, result.attempts) == ("READY", False, 0)
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    assert (result.args, result.kwargs) == (["it"], {"more": [1, "two"]})
    assert (result.task, result.backend, result.errors) == (task, "default", [])
    with pytest.raises(ValueError, match="not finished"):
        _ = result.return_value
    assert before <= result.enqueued_at <= timezone.now()

    finished(result)
    assert (str(result.status), result.is_finished, result.attempts) == ("SUCCESSFUL", True, 1)
    assert result.return_value == {"noted": "it", "more": [1, "two"]}
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert result.worker_ids[0].startswith(pid())
    assert task.get_result(result.id) == result
    assert log == ["it"]

    assert states(told) == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "SUCCESSFUL"),
    ]
    for _, _, of, sender in told:
        assert (of.id, sender) == (result.id, type(tasks.backend))


@flavours(functions.fail, functions.afail)
def test_a_task_fails_and_the_hook_hears_of_it(
    tasks: Tasks, told: list[Any], func: Any, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Any] = []
    with override_settings(BACKGROUND_TASKS={"ON_ERROR": failures.append}):
        result = finished(tasks.task(func).enqueue("lost"))
    assert (str(result.status), result.is_finished) == ("FAILED", True)
    (error,) = result.errors
    assert error.exception_class is LookupError
    assert error.traceback.startswith("Traceback")
    assert error.traceback.endswith("LookupError: lost\n")
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value
    assert result.started_at <= result.finished_at
    assert states(told)[-1] == ("finished", "FAILED")
    (failure,) = failures
    assert (failure.task.name, str(failure.exception)) == (result.task.module_path, "lost")
    logged = {r.name.replace("_", "."): r for r in caplog.records if r.levelno == logging.ERROR}
    assert set(logged) == {"bgadapters", "django.tasks"}
    for record in logged.values():  # the framework's own receiver finds the exception too
        assert isinstance(record.exc_info, tuple)
        assert record.exc_info[0] is LookupError


@flavours(functions.unserializable, functions.aunserializable)
def test_a_value_that_is_no_json_fails_the_task(tasks: Tasks, func: Any) -> None:
    result = finished(tasks.task(func).enqueue())
    assert str(result.status) == "FAILED"
    assert result.errors[0].exception_class is TypeError


def test_an_interrupt_in_a_task_is_a_failure_of_it_alone(tasks: Tasks) -> None:
    first = tasks.task(functions.interrupt).enqueue()
    second = tasks.task(functions.note).enqueue("after")
    assert finished(first).errors[0].exception_class is KeyboardInterrupt
    assert str(finished(second).status) == "SUCCESSFUL"


def test_an_argument_that_is_no_json_is_refused_at_the_call(tasks: Tasks, told: list[Any]) -> None:
    with pytest.raises(TypeError, match="Unsupported type"):
        tasks.task(functions.note).enqueue(object())
    assert told == []


def test_aenqueue_and_the_async_readers(tasks: Tasks) -> None:
    async def main() -> None:
        task = tasks.task(functions.anote)
        result = await task.aenqueue("it")
        assert str(result.status) == "READY"
        assert await bgadapters.adrain(PATIENCE) == []
        await result.arefresh()
        assert result.return_value == {"noted": "it"}
        assert await task.aget_result(result.id) == result
        with pytest.raises(tasks.no_result):
            await task.aget_result("unknown")

    asyncio.run(main())


def test_enqueue_where_a_loop_runs(tasks: Tasks) -> None:
    async def main() -> Any:
        result = tasks.task(functions.anote).enqueue("it")
        assert await bgadapters.adrain(PATIENCE) == []
        result.refresh()
        return result

    assert asyncio.run(main()).worker_ids == [f"{pid()}MainThread"]


@flavours(functions.with_context, functions.awith_context)
def test_a_task_may_take_its_context(tasks: Tasks, func: Any) -> None:
    result = finished(tasks.task(func, takes_context=True).enqueue("context"))
    assert result.return_value == result.id
    assert log == [("context", "RUNNING", 1)]


@flavours(functions.flaky, functions.aflaky)
@pytest.mark.parametrize("times", [1, 3])
def test_a_task_is_tried_again(tasks: Tasks, told: list[Any], func: Any, times: int) -> None:
    functions.failures[:] = [OSError("busy")] * times
    result = finished(tasks.task(func).enqueue("it"))
    functions.failures.clear()
    assert states(told)[0] == ("enqueued", "READY")
    assert [state for state in states(told) if state[0] == "finished"] == [
        ("finished", "SUCCESSFUL" if times == 1 else "FAILED")
    ]
    assert result.attempts == min(times + 1, 3)
    assert log == (["it"] if times == 1 else [])
    assert [error.exception_class for error in result.errors] == [OSError] * times


def test_what_is_given_out_is_the_callers_own(tasks: Tasks) -> None:
    """Neither the caller nor the function changes what others see."""
    given = [1]
    task = tasks.task(functions.change)
    result = task.enqueue(given)
    given.append(9)
    result.args.append("mine")
    finished(result)
    result.return_value.append("mine")
    result.errors.append("mine")
    seen = task.get_result(result.id)
    assert (seen.args, seen.return_value, seen.errors) == ([[1]], [1, 2], [])


def test_a_result_may_be_read_in_any_thread_while_it_changes(tasks: Tasks) -> None:
    task = tasks.task(functions.hold)
    result = task.enqueue()
    reached(functions.started)
    seen: list[Any] = []

    def read() -> None:
        seen.append(task.get_result(result.id))

    for go_on in (False, True):
        if go_on:
            functions.go_on.set()
            bgadapters.drain(PATIENCE)
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    running, done = seen
    assert (str(running.status), running.finished_at, running.attempts) == ("RUNNING", None, 1)
    assert (str(done.status), done.return_value) == ("SUCCESSFUL", "held")
    assert str(result.status) == "READY"  # until it is refreshed


def test_results_may_be_pickled_where_the_frameworks_may(tasks: Tasks) -> None:
    result = tasks.task(functions.note).enqueue("it")
    finished(result)
    if hasattr(type(result.task), "_reconstruct"):  # it finds the task by the name of its function
        functions_task = result.task
        original, functions.note = functions.note, functions_task
        try:
            assert pickle.loads(pickle.dumps(result)) == result
        finally:
            functions.note = original


def test_a_task_sees_the_language_of_the_moment(tasks: Tasks) -> None:
    with translation.override("de"):
        result = tasks.task(functions.language).enqueue()
    assert finished(result).return_value.startswith("bgadapters-")
    assert log == ["de"]


@flavours(functions.note, functions.anote)
@pytest.mark.parametrize("name", ["enqueued", "started", "finished"])
def test_a_receiver_that_raises(tasks: Tasks, name: str, func: Any, our_log: OurLog) -> None:
    """Whoever enqueues hears of the first; the others are said in the log."""

    def receive(task_result: Any, **_: Any) -> None:
        log.append(task_result.id)
        raise KeyError(name)

    signal = tasks.signals[name]
    signal.connect(receive)
    try:
        if name == "enqueued":
            with pytest.raises(KeyError, match=name):
                tasks.task(func).enqueue("it")
            bgadapters.drain(PATIENCE)
            result = tasks.backend.get_result(log[0])
        else:
            result = finished(tasks.task(func).enqueue("it"))
    finally:
        signal.disconnect(receive)
    assert str(result.status) == ("SUCCESSFUL" if name == "finished" else "FAILED")
    assert ("it" in log) is (name == "finished")
    assert our_log.records


@flavours(functions.note, functions.anote)
def test_in_a_response_a_receiver_that_raises_takes_the_task_along(
    tasks: Tasks, site: Site, func: Any
) -> None:
    """Though the view handles it, for whoever enqueued the task is not enqueued."""

    def receive(**_: Any) -> None:
        raise KeyError("receiver")

    @background_tasks
    def view(request: Any) -> HttpResponse:
        tasks.signals["enqueued"].connect(receive)
        try:
            with pytest.raises(KeyError, match="receiver"):
                tasks.task(func).enqueue("not enqueued")
        finally:
            tasks.signals["enqueued"].disconnect(receive)
        tasks.task(func).enqueue("enqueued")
        return HttpResponse()

    assert site.serve(view).get().status == 200
    assert log == ["enqueued"]


def test_an_async_task_that_is_thrown_away_has_failed(tasks: Tasks, told: list[Any]) -> None:
    """As by a loop that was closed: there is none any more that it could wait on."""
    with BackgroundTasks(runtime=get_runtime()) as queue:
        result = tasks.task(functions.anote).enqueue("it")
        steps: Any = queue.batch.remove().discarded[0].call()

    async def one_step() -> None:
        steps.send(None)
        while ("started", "RUNNING") not in states(told):  # a thread tells of it
            await asyncio.sleep(0.001)
        steps.close()

    asyncio.run(one_step())
    result.refresh()
    assert str(result.status) == "FAILED"
    assert result.errors[0].exception_class is GeneratorExit
    assert states(told)[-1] == ("finished", "FAILED")


def test_a_failure_around_the_function_is_in_the_result(
    tasks: Tasks, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scope of a task, which cleans up database connections, is not its own code."""

    def scope() -> Any:
        raise OSError("no database")

    execution = get_runtime().scheduler.execution
    monkeypatch.setattr(execution, "hooks", execution.hooks._replace(scope=scope))
    result = finished(tasks.task(functions.note).enqueue("it"))
    assert (str(result.status), result.started_at) == ("FAILED", None)
    assert result.errors[0].exception_class is OSError
    assert states(told) == [("enqueued", "READY"), ("finished", "FAILED")]
    assert log == []


# In a response


def test_tasks_of_a_response_run_after_it_in_order(tasks: Tasks, everywhere: Site) -> None:
    results: list[Any] = []

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        results.append(tasks.task(functions.note).enqueue("second"))
        results.append(tasks.task(functions.anote).enqueue("third"))
        add_task(log.append, "fourth")
        assert log == []
        return HttpResponse("body")

    assert everywhere.serve(view).get().body == b"body"
    assert log == ["first", "second", "third", "fourth"]
    assert [str(finished(result).status) for result in results] == ["SUCCESSFUL"] * 2


def test_an_async_view_enqueues(tasks: Tasks, everywhere: Site) -> None:
    @background_tasks
    async def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        await tasks.task(functions.anote).aenqueue("second")
        await tasks.task(functions.note).aenqueue("third")
        assert log == []
        return HttpResponse("body")

    assert everywhere.serve(view).get().body == b"body"
    assert log == ["first", "second", "third"]


@pytest.mark.parametrize("options", [{}, {"priority": 5}, {"run_after": timedelta(hours=1)}])
def test_a_response_that_fails_discards_and_the_result_says_so(
    tasks: Tasks, told: list[Any], everywhere: Site, our_log: OurLog, options: Any
) -> None:
    results: list[Any] = []
    if "run_after" in options:
        options = {"run_after": timezone.now() + options["run_after"]}

    @background_tasks
    def view(request: Any) -> HttpResponse:
        results.append(tasks.task(functions.note).using(**options).enqueue("lost"))
        raise LookupError("view")

    assert everywhere.serve(view).get().status == 500
    result = finished(results[0])
    assert (str(result.status), result.started_at, result.attempts) == ("FAILED", None, 0)
    (error,) = result.errors
    assert error.exception_class is NotRunError
    assert "LookupError: view" in error.traceback
    assert "the task was discarded before it began" in error.traceback
    assert states(told) == [("enqueued", "READY"), ("finished", "FAILED")]
    assert log == []
    warnings = our_log.messages
    assert len(warnings) == 1
    assert warnings[0].startswith("1 background task(s) discarded")
    assert warnings[0].endswith(f": {result.task.module_path}")


def test_a_task_enqueues_into_its_own_queue(tasks: Tasks, site: Site) -> None:
    functions.enqueue.append(tasks.task(functions.note))

    @background_tasks
    def view(request: Any) -> HttpResponse:
        tasks.task(functions.nest).enqueue()
        add_task(log.append, "second")
        return HttpResponse()

    site.serve(view).get()
    assert log == ["nest begins", "nest ends", "second", "nested"]


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_a_thread_that_outlives_its_response_enqueues(
    tasks: Tasks, site: Site, options: Any
) -> None:
    """It has the context of the view, but the queue of the response is closed."""
    enqueues: list[Any] = []

    @background_tasks
    def view(request: Any) -> HttpResponse:
        task = tasks.task(functions.note, **options)
        enqueues.append((copy_context(), task))
        return HttpResponse()

    site.serve(view).get()
    ((context, task),) = enqueues
    result = context.run(task.enqueue, "late")
    assert str(finished(result).status) == "SUCCESSFUL"


def test_a_full_backlog_refuses_the_task(tasks: Tasks, told: list[Any]) -> None:
    with override_settings(BACKGROUND_TASKS={"MAX_PENDING": 1, "ON_FULL": "reject"}):
        held = tasks.task(functions.hold).enqueue()
        with pytest.raises(QueueFullError, match=r"cannot add .*\.note: 1 tasks wait or run"):
            tasks.task(functions.note).enqueue("refused")
        assert [name for name, *_ in told].count("enqueued") == 1
        functions.go_on.set()
        finished(held)


# Commit


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
@pytest.mark.parametrize("commits", [True, False])
def test_outside_of_a_response_a_task_waits_for_the_commit(
    tasks: Tasks, options: Any, commits: bool, our_log: OurLog
) -> None:
    with transaction.atomic():
        result = tasks.task(functions.note, **options).enqueue("it")
        assert bgadapters.drain(PATIENCE) == []
        result.refresh()
        assert (str(result.status), log) == ("READY", [])
        transaction.set_rollback(not commits)
    finished(result)
    if commits:
        assert (str(result.status), log) == ("SUCCESSFUL", ["it"])
        return
    assert (str(result.status), log) == ("FAILED", [])
    assert result.errors[0].exception_class is NotRunError
    assert PreconditionFailedError.__name__ in result.errors[0].traceback
    (warning,) = our_log.messages
    assert warning == (
        "1 background task(s) discarded, their transaction was rolled back: "
        f"{result.task.module_path}"
    )


def test_an_inner_block_that_is_rolled_back_takes_its_tasks_along(tasks: Tasks) -> None:
    task = tasks.task(functions.note)
    with transaction.atomic():
        kept = task.enqueue("kept")
        with transaction.atomic():
            lost = task.enqueue("lost")
            transaction.set_rollback(True)
    assert str(finished(kept).status) == "SUCCESSFUL"
    assert str(finished(lost).status) == "FAILED"
    assert log == ["kept"]
    assert not connection.in_atomic_block


# Priority


def test_of_what_waits_the_higher_priority_goes_first(tasks: Tasks) -> None:
    with override_settings(BACKGROUND_TASKS={"MAX_WORKERS": 1}):
        tasks.task(functions.hold).enqueue()
        reached(functions.started)
        for number, priority in enumerate([0, -100, 0, 100, 5, 100]):
            tasks.task(functions.note, priority=priority).enqueue([priority, number])
        functions.go_on.set()
        bgadapters.drain(PATIENCE)
    assert log == [[100, 3], [100, 5], [5, 4], [0, 0], [0, 2], [-100, 1]]


def test_within_a_response_too_and_not_before_its_end(tasks: Tasks, handler: Site) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        tasks.task(functions.hold).enqueue()
        for priority in [0, 0, -1, 7]:
            tasks.task(functions.note, priority=priority).enqueue(priority)
        assert not functions.started.is_set()
        assert log == []
        functions.go_on.set()
        return HttpResponse()

    handler.serve(view, BACKGROUND_TASKS={"MAX_WORKERS": 1}).get()
    assert sorted(log) == [-1, 0, 0, 7]
    assert [priority for priority in log if priority == 0] == [0, 0]


# Time


def soon(seconds: float = 0.05) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


@flavours(functions.note, functions.anote)
def test_a_task_does_not_start_before_its_time(tasks: Tasks, func: Any) -> None:
    due = soon()
    result = tasks.task(func).using(run_after=due).enqueue("it")
    assert str(result.status) == "READY"
    finished(result)
    assert str(result.status) == "SUCCESSFUL"
    assert result.started_at >= due


def test_in_a_response_its_time_is_not_before_the_end_of_that(
    tasks: Tasks, everywhere: Site
) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        task = tasks.task(functions.note)
        task.using(run_after=soon(-1)).enqueue("past")
        task.using(run_after=soon()).enqueue("future")
        assert log == []
        return HttpResponse()

    everywhere.serve(view).get()
    assert log == ["past", "future"]


def test_what_is_not_due_at_a_drain_is_abandoned_and_the_result_says_so(
    tasks: Tasks, told: list[Any]
) -> None:
    result = tasks.task(functions.note).using(run_after=soon(3600)).enqueue("it")
    assert bgadapters.drain(PATIENCE) == [result.task.module_path]
    result.refresh()
    assert str(result.status) == "FAILED"
    assert "the task was abandoned before it began" in result.errors[0].traceback
    assert states(told) == [("enqueued", "READY"), ("finished", "FAILED")]


def test_what_runs_when_a_drain_gives_up_may_yet_finish(tasks: Tasks) -> None:
    result = tasks.task(functions.hold).enqueue()
    reached(functions.started)
    assert bgadapters.drain(0) == [result.task.module_path]
    result.refresh()
    assert str(result.status) == "RUNNING"
    done = threading.Event()

    def receive(**_: Any) -> None:
        done.set()

    tasks.signals["finished"].connect(receive)
    functions.go_on.set()
    reached(done)
    tasks.signals["finished"].disconnect(receive)
    result.refresh()
    assert str(result.status) == "SUCCESSFUL"


def test_an_async_task_that_a_drain_cancels_has_failed(tasks: Tasks) -> None:
    result = tasks.task(functions.hang).enqueue()
    reached(functions.started)
    assert bgadapters.drain(0) == [result.task.module_path]
    result.refresh()
    assert str(result.status) == "FAILED"
    assert result.errors[0].exception_class is asyncio.CancelledError


def test_what_waits_for_a_time_is_bounded(tasks: Tasks) -> None:
    with override_settings(BACKGROUND_TASKS={"MAX_PENDING": 1}):
        task = tasks.task(functions.note).using(run_after=soon(3600))
        task.enqueue("it")
        with pytest.raises(QueueFullError, match="wait for a later time"):
            task.enqueue("one more")
        assert len(bgadapters.drain(PATIENCE)) == 1


@pytest.mark.parametrize("use_tz", [True, False])
def test_times_of_any_zone(tasks: Tasks, use_tz: bool) -> None:
    with override_settings(USE_TZ=use_tz):
        for zone in [UTC, timezone.get_fixed_timezone(330)] + [None] * (not use_tz):
            due = datetime.now(zone) + timedelta(seconds=0.05)
            result = finished(tasks.task(functions.note).using(run_after=due).enqueue("it"))
            assert str(result.status) == "SUCCESSFUL"
            assert datetime.now(zone) >= due


@pytest.mark.parametrize("run_after", [timedelta(seconds=1), "tomorrow", 5])
def test_what_is_no_time_is_refused(tasks: Tasks, run_after: Any) -> None:
    with pytest.raises(tasks.invalid_task, match="run_after accepts a datetime or None, not "):
        tasks.task(functions.note).using(run_after=run_after)


@pytest.mark.parametrize("zone", [timezone.get_fixed_timezone(840), None])
@pytest.mark.parametrize("run_after", [datetime.min, datetime.max])
def test_the_first_and_the_last_times_there_are(
    tasks: Tasks, run_after: datetime, zone: Any
) -> None:
    """In UTC some of them would have no year."""
    with override_settings(USE_TZ=zone is not None):
        due = run_after.replace(tzinfo=zone)
        result = tasks.task(functions.note).using(run_after=due).enqueue("it")
        if run_after == datetime.min:
            assert str(finished(result).status) == "SUCCESSFUL"
        else:
            assert bgadapters.drain(PATIENCE) == [result.task.module_path]


def test_a_naive_time_is_refused_as_by_other_backends(tasks: Tasks) -> None:
    with pytest.raises(tasks.invalid_task, match="aware"):
        tasks.task(functions.note).using(run_after=datetime.now())


# Results


def test_only_the_last_results_are_kept(tasks: Tasks) -> None:
    tasks.configure(OPTIONS={"MAX_RESULTS": 2})
    done = threading.Semaphore(0)

    def receive(**_: Any) -> None:
        done.release()

    held = tasks.task(functions.hold).enqueue()
    tasks.signals["finished"].connect(receive)
    with BackgroundTasks(runtime=get_runtime()):  # so that they run one after another
        results = [tasks.task(functions.note).enqueue(number) for number in range(4)]
    for _ in results:
        assert done.acquire(timeout=PATIENCE)
    tasks.signals["finished"].disconnect(receive)
    there = [_is_there(tasks.backend, result.id) for result in [held, *results]]
    assert there == [True, False, False, True, True]  # what has not finished is kept
    with pytest.raises(tasks.no_result, match=results[0].id):
        results[0].refresh()
    functions.go_on.set()
    assert str(finished(held).status) == "SUCCESSFUL"
    assert not _is_there(tasks.backend, results[2].id)


def _is_there(backend: Any, result_id: str) -> bool:
    try:
        backend.get_result(result_id)
    except Exception:
        return False
    return True


def test_no_results_may_be_kept_at_all(tasks: Tasks) -> None:
    tasks.configure(OPTIONS={"MAX_RESULTS": 0})
    result = tasks.task(functions.note).enqueue("it")
    assert bgadapters.drain(PATIENCE) == []
    with pytest.raises(tasks.no_result):
        result.refresh()


def test_a_backend_has_its_own_results(tasks: Tasks) -> None:
    task = tasks.task(functions.note)
    result = finished(task.enqueue("it"))
    with pytest.raises(tasks.no_result):
        task.using(backend="other").get_result(result.id)
    with pytest.raises(tasks.module("exceptions").TaskResultMismatch):
        tasks.task(functions.anote).get_result(result.id)


def test_a_forked_child_has_no_results_of_its_parent(tasks: Tasks) -> None:
    result = finished(tasks.task(functions.note).enqueue("it"))
    child = os.fork()
    if not child:
        try:
            mine = tasks.task(functions.note).enqueue("child")
            bgadapters.drain(PATIENCE)
            mine.refresh()
            good = mine.is_finished and not _is_there(tasks.backend, result.id)
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    task_results._reset_after_fork()
    assert not _is_there(tasks.backend, result.id)


# Settings and checks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MAX_RESULT": 1}, r"TASKS\['default'\]\['OPTIONS'\] accepts 'MAX_RESULTS', not 'MAX_R"),
        ({"MAX_RESULTS": -1}, r"\['MAX_RESULTS'\] accepts a whole number from 0, not -1"),
        ({"MAX_RESULTS": True}, "not True"),
        ({"MAX_RESULTS": "9"}, "not '9'"),
        (None, r"TASKS\['default'\]\['OPTIONS'\] accepts a dictionary, not None"),
    ],
)
def test_options_are_checked(tasks: Tasks, options: Any, message: str) -> None:
    tasks.configure(OPTIONS=options)
    with pytest.raises(ImproperlyConfigured, match=message):
        tasks.task(functions.note)


def test_what_the_backend_says_of_itself(tasks: Tasks) -> None:
    backend = tasks.backend
    assert backend.supports_async_task
    assert backend.supports_priority
    assert backend.supports_defer
    assert not backend.supports_get_result  # from other processes


def test_queues_are_checked_when_a_task_is_enqueued(tasks: Tasks) -> None:
    task = tasks.task(functions.note)
    tasks.configure(QUEUES=["mail"])
    with pytest.raises(tasks.invalid_task, match="Queue 'default' is not valid"):
        task.enqueue("it")
    assert str(finished(task.using(queue_name="mail").enqueue("it")).status) == "SUCCESSFUL"


@pytest.mark.parametrize("installed", [True, False])
def test_the_application_should_be_installed(tasks: Tasks, installed: bool) -> None:
    with override_settings(INSTALLED_APPS=["bgadapters.django"] if installed else []):
        found = tasks.backend.check()
        ours = [m for m in checks.run_checks() if m.id == "bgadapters.W006"]
    if installed:
        assert found == []
        return
    (message,) = found
    assert message.id == "bgadapters.W006"
    assert "TASKS['default']" in message.msg
    assert "'bgadapters.django'" in message.hint
    if tasks.package == "django.tasks":  # the backport's checks come with its application
        assert {m.msg for m in ours} >= {message.msg}


# The other way: add_task given a task


@pytest.mark.parametrize("form", ["the task", "its method"])
@pytest.mark.parametrize("func", [functions.note, functions.anote], ids=["plain", "async"])
def test_add_task_hands_a_task_to_its_own_backend(
    tasks: Tasks, everywhere: Site, func: Any, form: str, told: list[Any]
) -> None:
    task = tasks.task(func)
    given = task if form == "the task" else task.enqueue

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        request.background_tasks.add_task(given, "task", more=1)
        assert told == []
        return HttpResponse()

    everywhere.serve(view).get()
    assert log == ["first", "task"]
    assert states(told) == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "SUCCESSFUL"),
    ]
    assert told[0][2].kwargs == {"more": 1}


def test_that_backend_may_be_another(tasks: Tasks, site: Site) -> None:
    with override_settings(
        TASKS={"default": {"BACKEND": f"{tasks.package}.backends.dummy.DummyBackend"}}
    ):
        task = tasks.task(functions.note)
        seen: list[Any] = []

        def receive(task_result: Any, **_: Any) -> None:
            seen.append((task_result.args, threading.current_thread().name))

        tasks.signals["enqueued"].connect(receive)

        @background_tasks
        def view(request: Any) -> HttpResponse:
            add_task(task, 1)
            assert seen == []
            return HttpResponse()

        site.serve(view).get()
        tasks.signals["enqueued"].disconnect(receive)
    ((args, thread),) = seen
    assert args == [1]
    assert thread.startswith("bgadapters-")


def test_a_queue_of_ones_own_counts_as_a_response(tasks: Tasks) -> None:
    with BackgroundTasks(runtime=get_runtime()) as queue:
        tasks.task(functions.note).enqueue("it")
        assert len(queue) == 1
    bgadapters.drain(PATIENCE)
    assert log == ["it"]


# What a test sees of them


@pytest.mark.parametrize("strict_portable", [False, True])
def test_a_test_sees_the_task_that_was_enqueued(tasks: Tasks, strict_portable: bool) -> None:
    task = tasks.task(functions.note)
    with capture_tasks(strict_portable=strict_portable) as captured, BackgroundTasks() as queue:
        task.enqueue("ada", more=1)
        queue.add_task(task, "bob", more=2)
        task.using(priority=5).enqueue("cleo")
    for enqueued in (task, functions.note):
        captured.assert_added_once(enqueued, "ada", more=1)
        captured.assert_added_once(enqueued, "bob", more=2)
        captured.assert_added_once(enqueued, "cleo")
    assert {recorded.func for recorded in captured.tasks} == {functions.note}
    said = f"{functions.__name__}.note"
    with pytest.raises(AssertionError, match=rf"^{said}\('eve'\) was not added\.(.*\n){{3}}"):
        captured.assert_added(task, "eve")
    captured.run_pending()
    assert sorted(log) == ["ada", "bob", "cleo"]


def test_the_module_can_be_imported_where_django_has_no_tasks() -> None:
    """Queues of tasks import a module of that name of each application."""
    from bgadapters.django import tasks

    if django.VERSION < (6,):
        with pytest.raises(ModuleNotFoundError, match=r"use bgadapters\.django\.tasks_b"):
            tasks.PostResponseBackend
    with pytest.raises(AttributeError, match="has no attribute 'Other'"):
        tasks.Other
