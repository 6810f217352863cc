"""The recorder in this process: what it knows of tasks, and the messages of its assertions."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest.mock import ANY, Mock

import pytest

from bgadapters import (
    BackgroundTasks,
    NoResponseError,
    NotPortableError,
    Retry,
    add_task,
    drain,
)
from bgadapters.adapters import Options, Runtime, TaskEvent, parse_settings, start_serving
from bgadapters.core.model import mode
from bgadapters.testing import LeakedTasksError, Recorder, capture_tasks, run_tasks
from bgadapters.testing.assertions import Assertions
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore

PATIENCE = 10.0


def write(email: str, message: str = "") -> None: ...


async def send(email: str) -> None: ...


def fail(what: str) -> None:
    raise ValueError(what)


WRITE = f"{__name__}.write"


@pytest.fixture
def tasks() -> Iterator[Recorder]:
    """With three tasks in it, of which one is not captured."""
    with capture_tasks() as recorder:
        queue = BackgroundTasks(path="/sign-up")
        with queue:
            add_task(write, "ada", message="hello")
            queue.options(name="welcome", always=True).add_task(send, "ada")
        BackgroundTasks().add_task(write, "grace")
        yield recorder
        with pytest.raises(LeakedTasksError, match=f"never ran, .*: {WRITE}. Read"):
            recorder.finish(0)


WAS_ADDED = f"""Added were:
  1. {WRITE}('ada', message='hello')  [/sign-up, pending]
  2. welcome('ada')  [/sign-up, pending, always=True]
  3. {WRITE}('grace')  [pending]"""


def test_tasks_are_plain_objects(tasks: Recorder) -> None:
    first, second, third = tasks.tasks
    assert (first.func, first.args, first.kwargs) == (write, ("ada",), {"message": "hello"})
    assert (first.path, first.outcome, first.exception) == ("/sign-up", "pending", None)
    assert (second.func, second.kwargs, second.options) == (
        send,
        {},
        Options(True, "welcome", run_on="always"),
    )
    assert (third.path, third.name, third.where) == (None, WRITE, WRITE)
    assert repr(first) == f"{WRITE}('ada', message='hello')"
    assert first.where == f"{WRITE} of /sign-up"
    assert tasks.pending == [first, second]


def test_what_was_added_is_returned(tasks: Recorder) -> None:
    first, second, third = tasks.tasks
    assert tasks.assert_added(write, "ada", message="hello") is first
    assert tasks.assert_added(write, ANY, message=ANY) is first
    assert tasks.assert_added(write, ...) is third
    assert tasks.assert_added(ANY, "grace") is third
    assert tasks.assert_added_once(send, "ada") is second
    assert tasks.assert_added_once(write, "grace") is third
    assert tasks.assert_added(write, ..., message="hello") is first
    assert tasks.assert_added(write, ..., message=ANY) is first
    tasks.assert_not_added(write, ..., message="bye")
    tasks.assert_not_added(send, ..., message=ANY)
    tasks.assert_not_added(write, "eve")
    tasks.assert_not_added(fail)
    Recorder().assert_none()


@pytest.mark.parametrize(
    ("check", "args", "said"),
    [
        ("added", (write, "eve"), f"{WRITE}('eve') was not added. "),
        ("added", (write,), f"{WRITE}() was not added. "),
        ("added", (fail, ...), f"{__name__}.fail(...) was not added. "),
        ("added", ("fail", 1), "'fail'(1) was not added. "),
        ("added", (ANY, "eve"), "<ANY>('eve') was not added. "),
        ("added_once", (write, "eve"), f"{WRITE}('eve') was not added, expected once. "),
        ("added_once", (write, ...), f"{WRITE}(...) was 2 times added, expected once. "),
        ("not_added", (write, "grace"), f"{WRITE}('grace') was added. "),
        ("not_added", (write,), f"{WRITE}(...) was added. "),
        ("none", (), "Expected no background task. "),
    ],
)
def test_a_message_shows_what_was_added_instead(
    tasks: Recorder, check: str, args: Any, said: str
) -> None:
    with pytest.raises(AssertionError) as failure:
        getattr(tasks, f"assert_{check}")(*args)
    assert str(failure.value) == said + WAS_ADDED


def test_a_message_shows_keyword_arguments_and_that_nothing_was_added() -> None:
    with pytest.raises(AssertionError) as failure:
        Recorder().assert_added(functools.partial(write), "eve", message="hi")
    assert str(failure.value) == f"{WRITE}('eve', message='hi') was not added. No task was added."


def test_a_message_names_a_mock_by_its_own_name() -> None:
    with capture_tasks() as tasks, BackgroundTasks() as queue:
        queue.add_task(Mock(name="mail.send"), 1)
    said = (
        r"^Expected no background task. Added were:\n  1. <Mock name='mail.send' id='\d+'>\(1\)  \["
    )
    with pytest.raises(AssertionError, match=said):
        tasks.assert_none()


def test_a_message_survives_arguments_that_cannot_be_shown() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with capture_tasks() as tasks, BackgroundTasks() as queue:
        queue.add_task(print, Odd(), sep="")
    with pytest.raises(AssertionError) as failure:
        tasks.assert_added(print, sep=Odd())
    odd = "<Odd object, repr() of which raised RuntimeError>"
    assert str(failure.value) == (
        f"builtins.print(sep={odd}) was not added. Added were:\n"
        f"  1. builtins.print({odd}, sep='')  [pending]"
    )


def test_assertions_need_tasks() -> None:
    assert Assertions.tasks.__isabstractmethod__  # type: ignore[attr-defined]


def test_a_mode_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="mode accepts 'run' or 'capture', not 'off'"):
        Recorder("off")  # type: ignore[arg-type]


def test_a_block_raises_what_a_task_has_raised() -> None:
    with pytest.raises(ValueError, match="deep") as failure, run_tasks() as tasks:
        with BackgroundTasks(path="/deep") as queue:
            queue.add_task(fail, "deep")
        assert tasks.tasks[0].outcome == "failed"
    assert failure.value.__notes__ == [f"Raised by the background task {__name__}.fail of /deep"]
    assert tasks.tasks[0].exception is failure.value


def test_a_block_raises_a_group_of_several() -> None:
    with pytest.raises(ExceptionGroup) as failure, run_tasks(timeout=0):
        with BackgroundTasks() as queue:
            queue.add_task(fail, "one")
        BackgroundTasks().add_task(write, "never")
    one, lost = failure.value.exceptions
    assert str(one) == "one"
    assert str(lost).startswith("1 background task(s) never ran, since nothing closed")


def test_a_block_that_raises_by_itself_tells_of_its_tasks() -> None:
    with pytest.raises(KeyError) as failure, run_tasks():
        with BackgroundTasks() as queue:
            queue.add_task(fail, "one")
        raise KeyError
    assert failure.value.__notes__ == ["In the same test: ValueError: one"]


def test_a_block_may_ignore_failures() -> None:
    with run_tasks(ignore_failures=True) as tasks, BackgroundTasks() as queue:
        queue.add_task(fail, "one")
    assert tasks.tasks[0].outcome == "failed"
    tasks.raise_failures()


def test_ctrl_c_in_a_task_is_ctrl_c() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), run_tasks(), BackgroundTasks() as queue:
        queue.add_task(fail, "one")
        queue.add_task(interrupted)


def test_a_block_names_what_has_not_finished() -> None:
    has_begun, may_end = threading.Event(), threading.Event()

    def stay(queue: BackgroundTasks) -> None:
        has_begun.set()
        may_end.wait(PATIENCE)
        queue.add_task(write, "zombie")
        fail("too late")

    def leave() -> None:
        with BackgroundTasks() as queue:
            queue.add_task(stay, queue)

    thread = threading.Thread(target=leave)
    said = r"^1 background task\(s\) had not finished 0.01 s"
    with pytest.raises(LeakedTasksError, match=said), run_tasks(timeout=0.01):
        thread.start()
        assert has_begun.wait(PATIENCE)
    with run_tasks() as tasks:
        may_end.set()
        thread.join(PATIENCE)
    tasks.assert_none()


def test_what_was_abandoned_is_not_also_told_as_cancelled() -> None:
    async def main() -> None:
        with pytest.raises(LeakedTasksError), run_tasks(timeout=0.01) as tasks:
            queue = BackgroundTasks()
            queue.add_task(asyncio.sleep, PATIENCE)
            queue.release()
            await asyncio.sleep(0)
            await asyncio.to_thread(tasks.settle, 0.01)
        (task,) = tasks.tasks
        assert (task.outcome, task.exception) == ("abandoned", None)

    asyncio.run(main())


def test_what_fails_while_it_is_abandoned_has_failed() -> None:
    with capture_tasks() as tasks, BackgroundTasks() as queue:
        queue.add_task(write, "ada")
        (task,) = queue.batch.left()
    (recorded,) = tasks.tasks
    tasks.on_event(TaskEvent("failed", task, ValueError("one")))
    tasks.on_event(TaskEvent("abandoned", task))
    assert recorded.outcome == "failed"
    with pytest.raises(ValueError, match="one"):
        tasks.raise_failures()


def test_a_group_is_raised_in_a_frame_that_pytest_shows() -> None:
    """Where all are hidden pytest 8.4 breaks, and others remark on it."""
    with pytest.raises(ExceptionGroup) as failure, run_tasks(), BackgroundTasks() as queue:
        queue.add_task(fail, "one")
        queue.add_task(fail, "two")
    frames = [
        entry for entry in failure.traceback if "bgadapters" in entry.frame.f_globals["__name__"]
    ]
    assert [entry.name for entry in frames if not entry.ishidden(failure)] == ["_raise_all"]


def test_a_response_that_is_about_to_be_closed_is_waited_for() -> None:
    has_added, may_end = threading.Event(), threading.Event()

    def answer() -> None:
        with BackgroundTasks() as queue:
            queue.add_task(write, "ada")
            has_added.set()
            assert may_end.wait(PATIENCE)

    thread = threading.Thread(target=answer)
    with run_tasks() as tasks:
        thread.start()
        assert has_added.wait(PATIENCE)
        threading.Timer(0.01, may_end.set).start()
    thread.join(PATIENCE)
    assert tasks.assert_added_once(write, "ada").outcome == "succeeded"


def test_what_was_cleared_is_neither_shown_nor_run() -> None:
    with capture_tasks() as tasks, BackgroundTasks() as queue:
        queue.add_task(fail, "never")
    tasks.clear()
    tasks.assert_none()
    assert tasks.run_pending() == 0


def test_times_are_due_at_once() -> None:
    """A test neither waits for another day nor fails for not having waited."""
    with run_tasks() as tasks, BackgroundTasks() as queue:
        queue.options(delay=86_400, priority=3).add_task(write, "ada")
    (task,) = tasks.tasks
    assert (task.outcome, task.attempts, task.options.delay) == ("succeeded", 1, 86_400)
    assert task.given == "delay=86400, priority=3"


def test_what_is_due_at_once_is_waited_for() -> None:
    """By whoever awaits the tasks of a response, as an ASGI server's call does."""
    returned, log = threading.Event(), list[bool]()

    async def main() -> None:
        async with BackgroundTasks() as queue:
            queue.options(delay=86_400).add_task(lambda: log.append(returned.wait(0.1)))
        returned.set()

    with run_tasks():
        asyncio.run(main())
    assert log == [False]


def test_what_is_for_later_is_captured_too() -> None:
    with capture_tasks() as tasks, BackgroundTasks() as queue:
        queue.options(delay=86_400).add_task(write, "ada")
        queue.add_task(write, "grace")
    assert [task.outcome for task in tasks.pending] == ["pending"] * 2
    assert tasks.run_pending() == 2
    assert [task.outcome for task in tasks.tasks] == ["succeeded"] * 2


def flaky(failures: list[Exception]) -> None:
    if failures:
        raise failures.pop()


async def aflaky(failures: list[Exception]) -> None:
    flaky(failures)


@pytest.mark.parametrize("func", [flaky, aflaky])
@pytest.mark.parametrize("is_async", [True, False])
def test_retries_do_not_wait(func: Any, is_async: bool) -> None:
    """Whatever they ask for; the last failure alone fails the test."""
    failures = [ValueError("first"), Retry(delay=86_400), OSError("third")]

    async def main() -> None:
        async with BackgroundTasks() as queue:
            queue.options(retries=3, backoff=3600).add_task(func, failures)
            queue.options(retries=1, backoff=3600).add_task(func, [ValueError("x")] * 2)

    with run_tasks(ignore_failures=True) as tasks:
        if is_async:
            asyncio.run(main())
        else:
            with BackgroundTasks() as queue:
                queue.options(retries=3, backoff=3600).add_task(func, failures)
                queue.options(retries=1, backoff=3600).add_task(func, [ValueError("x")] * 2)
    found = [(task.outcome, task.attempts) for task in tasks.tasks]
    assert found == [("succeeded", 4), ("failed", 2)]
    assert tasks.tasks[0].exception is None


def test_time_is_taken_where_it_is_asked_for() -> None:
    began = time.monotonic()
    with run_tasks(real_time=True) as tasks, BackgroundTasks() as queue:
        queue.options(delay=0.1).add_task(write, "ada")
        queue.options(retries=1, backoff=lambda *_: 0.1).add_task(flaky, [ValueError()])
        ended = threading.Event()
        queue.options(delay=0.15).add_task(ended.set)
        queue.release()
        assert ended.wait(10)
    assert time.monotonic() - began >= 0.15
    assert [task.outcome for task in tasks.tasks] == ["succeeded"] * 3


def test_captured_tasks_may_run_after_their_block() -> None:
    """In this thread, told of and judged as they would be in the block."""
    threads: list[threading.Thread] = []
    with capture_tasks() as tasks:
        with BackgroundTasks() as queue:
            queue.add_task(lambda: threads.append(threading.current_thread()))
        with BackgroundTasks() as queue:
            queue.add_task(fail, "one")
    with pytest.raises(ValueError, match="one"):
        tasks.run_pending()
    assert threads == [threading.current_thread()]
    assert [task.outcome for task in tasks.tasks] == ["succeeded", "failed"]


def test_a_coroutine_may_run_captured_tasks_after_their_block() -> None:
    async def main() -> None:
        with capture_tasks() as tasks:
            async with BackgroundTasks() as queue:
                queue.add_task(send, "ada")
                queue.add_task(fail, "one")
        with pytest.raises(ValueError, match="one"):
            await tasks.arun_pending()
        assert [task.outcome for task in tasks.tasks] == ["succeeded", "failed"]

    asyncio.run(main())


def test_a_block_of_its_own_has_a_task_that_was_added_before() -> None:
    queue = BackgroundTasks()
    queue.add_task(write, "ada")
    with run_tasks() as tasks:
        queue.release()
    assert tasks.assert_added_once(write, "ada").outcome == "succeeded"


@pytest.mark.parametrize("has_tasks", [True, False])
def test_a_queue_that_nobody_has_left_is_not_the_current_one_any_more(has_tasks: bool) -> None:
    leaks: AbstractContextManager[object] = (
        pytest.raises(LeakedTasksError) if has_tasks else nullcontext()
    )
    with leaks, run_tasks(timeout=0):
        BackgroundTasks().__enter__()
        if has_tasks:
            add_task(write, "ada")
    with pytest.raises(NoResponseError):
        add_task(write, "ada")


def test_a_block_leaves_the_current_queue_as_it_was() -> None:
    with BackgroundTasks() as queue:
        with capture_tasks():
            BackgroundTasks().__enter__()
        add_task(write, "ada")
        assert len(queue) == 1


def test_after_a_block_nothing_is_in_force() -> None:
    with run_tasks(strict_portable=True):
        pass
    assert mode.active is mode.SERVING
    with BackgroundTasks() as queue:
        queue.add_task(lambda: None)
    assert drain(PATIENCE) == []


@pytest.mark.parametrize("is_async", [False, True])
def test_of_captured_tasks_with_one_key_one_counts(is_async: bool) -> None:
    """All of them are recorded; they wait together when they are run."""
    log: list[str] = []

    async def run(tasks: Any) -> int:
        count: int = await tasks.arun_pending()
        return count

    with capture_tasks() as tasks:
        for name in ("first", "second"):
            with BackgroundTasks() as queue:
                queue.options(key="k", name=name).add_task(log.append, name)
                queue.add_task(log.append, f"after {name}")
        assert len(tasks.tasks) == 4
        assert (asyncio.run(run(tasks)) if is_async else tasks.run_pending()) == 4
        assert [task.outcome for task in tasks.tasks] == ["replaced", *(["succeeded"] * 3)]
    assert log == ["after first", "second", "after second"]


@pytest.mark.parametrize(("on_duplicate", "counts"), [("replace", "third"), ("keep", "first")])
@pytest.mark.parametrize("way", ["in a thread", "awaited"])
@pytest.mark.parametrize("more", [{"delay": 60}, {"priority": 5}, {"priority": -5}])
def test_tasks_with_a_key_that_leave_the_order_wait_together(
    way: str, on_duplicate: Any, counts: str, more: Any
) -> None:
    """As in a server: those of one response, though their time has come at once."""
    log: list[str] = []

    def add(queue: BackgroundTasks, *names: str) -> None:
        for name in names:
            options = queue.options(key="k", on_duplicate=on_duplicate, name=name, **more)
            options.add_task(log.append, name)
        queue.options(delay=60).add_task(log.append, "another")

    async def serve() -> None:
        async with BackgroundTasks() as queue:
            add(queue, "first", "second", "third")

    with run_tasks() as tasks:
        if way == "awaited":
            asyncio.run(serve())
        else:
            with BackgroundTasks() as queue:
                add(queue, "first", "second", "third")
        with BackgroundTasks() as queue:
            add(queue, "of the next response")
    expected = [counts, "another", "of the next response", "another"]
    assert sorted(log) == sorted(expected)
    assert log.index(counts) < log.index("of the next response")
    outcomes = {task.name: task.outcome for task in tasks.tasks if task.options.key}
    replaced = {"first", "second", "third"} - {counts}
    assert {name for name, outcome in outcomes.items() if outcome == "replaced"} == replaced
    assert outcomes[counts] == outcomes["of the next response"] == "succeeded"


def test_in_real_time_they_wait_as_in_a_server() -> None:
    log: list[str] = []
    with run_tasks(real_time=True) as tasks:
        for name in ("first", "second"):
            with BackgroundTasks() as queue:
                queue.options(key="k", delay=0.2).add_task(log.append, name)
    assert (log, [task.outcome for task in tasks.tasks]) == (["second"], ["replaced", "succeeded"])


def test_a_durable_task_is_a_plain_one_that_could_be_kept() -> None:
    """No store is touched; the task, its function and its options are seen as they were given."""
    store = MemoryStore()
    given = {"store": store, "task_modules": [durable_tasks.__name__]}
    runtime = Runtime(parse_settings(given))
    durable_tasks.happened.clear()
    with run_tasks() as tasks, BackgroundTasks(runtime=runtime) as queue:
        durable = queue.options(durable=True)
        durable.add_task(durable_tasks.note, 1)
        assert queue.batch.unconfirmed is None
        with pytest.raises(NotPortableError, match="durable=True accepts arguments that JSON"):
            durable.add_task(durable_tasks.note, object())
        with pytest.raises(NotPortableError, match="Decorate it with @task_options"):
            durable.add_task(write, "ada")
        with pytest.raises(TypeError, match="Write it at the function"):
            durable.options(retry_on=ValueError).add_task(durable_tasks.note, 1)
        start_serving(runtime)
        (task,) = tasks.tasks
        assert (task.func, task.options.durable) == (durable_tasks.note, True)
        assert len(queue) == 1
    assert (durable_tasks.happened, store.calls) == ([1], [])
