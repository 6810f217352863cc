"""A suite for the plugin, without a framework. Names tell what becomes of each test."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import ANY

import pytest

import bgadapters
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, Settings
from bgadapters.testing import Recorder, capture_tasks, run_tasks

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


def note(what: object) -> None:
    ran.append((what, threading.current_thread()))


async def anote(what: object) -> None:
    await asyncio.sleep(0)
    ran.append((what, threading.current_thread()))


def fail(what: str = "deep down") -> None:
    try:
        raise KeyError(what)
    except KeyError as exc:
        raise ValueError(what) from exc


def add(func: Callable[..., Any], *args: Any) -> None:
    with BackgroundTasks() as tasks:
        tasks.add_task(func, *args)


def respond(queue: BackgroundTasks) -> None:
    for number in range(2):
        queue.add_task(note, number)
        queue.add_task(anote, f"async {number}")
    queue.release()


def whats() -> list[object]:
    return [what for what, _ in ran]


ALL = [0, "async 0", 1, "async 1"]


def test_tasks_have_run_in_this_thread_when_the_release_returns() -> None:
    respond(BackgroundTasks())
    assert ran == [(what, threading.current_thread()) for what in ALL]


def test_async_tasks_share_a_loop() -> None:
    loops: list[object] = []

    async def which() -> None:
        loops.append(asyncio.get_running_loop())

    runtime = Runtime()
    for _ in range(2):
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(which)
        queue.release()
    assert len(loops) == 2
    assert loops[0] is loops[1]


def test_an_async_task_may_wait_for_a_thread_that_has_async_tasks() -> None:
    runtime = Runtime()

    def inner() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(anote, "inner")
        queue.release()
        note("outer")

    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(asyncio.to_thread, inner)
    queue.release()
    assert whats() == ["inner", "outer"]


def test_drain_has_nothing_to_do() -> None:
    respond(BackgroundTasks())
    assert bgadapters.drain() == []
    assert whats() == ALL


def test_a_full_backlog_rejects_as_ever() -> None:
    runtime = Runtime(Settings(max_pending=1, on_full="reject"))
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(note, 1)
    with pytest.raises(bgadapters.QueueFullError):
        queue.add_task(note, 2)
    with capture_tasks():
        queue.release()
    with BackgroundTasks(runtime=runtime) as other:  # what is captured takes no place
        other.add_task(note, 3)
    assert whats() == [3]


def test_fails_with_the_traceback_of_the_task() -> None:
    add(fail)


def test_fails_with_that_of_an_async_task_that_was_added_by_a_task() -> None:
    async def inner() -> None:
        fail("async")

    with BackgroundTasks() as tasks:
        tasks.add_task(tasks.add_task, inner)


def test_fails_with_several() -> None:
    add(fail, "first")
    add(fail, "second")


def test_fails_by_itself_and_tells_of_the_task() -> None:
    add(fail, "of a task")
    assert ran == ["never"]


def test_fails_by_what_pytest_raises() -> None:
    add(pytest.fail, "said in a task")


def test_fails_by_what_would_end_the_run() -> None:
    def leave() -> None:
        sys.exit(3)

    add(leave)


def test_fails_by_what_would_end_a_generator() -> None:
    def stop() -> None:
        next(iter([]))

    add(stop)


def test_skips_by_a_task() -> None:
    add(pytest.skip, "said in a task")


def test_errors_though_it_skips() -> None:
    add(fail, "of a skipped test")
    pytest.skip("by itself")


class Case(unittest.TestCase):
    def test_fails_with_its_task(self) -> None:
        add(fail)

    def test_errors_beside_its_own_failure(self) -> None:
        add(fail, "of a test case")
        self.fail("by itself")

    def test_errors_beside_what_it_skips(self) -> None:
        add(fail, "of a skipped test case")
        self.skipTest("by itself")

    @unittest.expectedFailure
    def test_errors_beside_an_expected_failure(self) -> None:
        add(fail, "not the expected one")


@pytest.mark.background_tasks(ignore_failures=True)
def test_failures_can_be_ignored(background_tasks: Recorder) -> None:
    add(fail)
    (task,) = background_tasks.tasks
    assert (task.outcome, type(task.exception)) == ("failed", ValueError)


def test_failures_can_be_ignored_from_now_on(background_tasks: Recorder) -> None:
    background_tasks.ignore_failures()
    add(fail)


@pytest.fixture
def broken() -> None:
    add(fail, "in a fixture")


@pytest.fixture
def broken_later() -> Iterator[None]:
    yield
    add(fail, "in a tear-down")


@pytest.fixture
def broken_itself_later() -> Iterator[None]:
    yield
    add(fail, "beside the tear-down")
    raise LookupError("of the tear-down")


def test_errors_in_the_teardown_by_itself(broken_itself_later: None) -> None: ...


def test_errors_in_the_setup(broken: None) -> None:
    raise AssertionError("is not called")


def test_errors_in_the_teardown(broken_later: None) -> None: ...


def test_errors_for_a_queue_that_nobody_releases() -> None:
    BackgroundTasks().add_task(note, "never")


@pytest.fixture
def tasks() -> Iterator[BackgroundTasks]:
    with BackgroundTasks() as made:
        made.add_task(note, "of the fixture")
        yield made
    assert whats() == ["of the fixture", "of the test"]


def test_a_queue_of_a_fixture_lasts_as_long_as_it(tasks: BackgroundTasks) -> None:
    tasks.add_task(note, "of the test")


def test_a_thread_that_still_answers_is_waited_for(background_tasks: Recorder) -> None:
    may_end = threading.Event()

    def answer() -> None:
        with BackgroundTasks() as queue:
            queue.add_task(note, "late")
            may_end.wait(10)

    thread = threading.Thread(target=answer)
    thread.start()
    threading.Timer(0.05, may_end.set).start()
    background_tasks.assert_not_added(fail)


@pytest.mark.background_tasks("capture")
def test_captured_tasks_run_when_they_are_told_to(background_tasks: Recorder) -> None:
    respond(BackgroundTasks())
    respond(BackgroundTasks())
    assert ran == []
    assert [task.args[0] for task in background_tasks.pending] == ALL * 2
    assert background_tasks.run_pending(lambda task: task.func is anote) == 4
    assert whats() == ["async 0", "async 1"] * 2
    assert background_tasks.run_pending() == 4
    assert whats()[4:] == [0, 1] * 2
    assert background_tasks.run_pending() == 0
    assert {task.outcome for task in background_tasks.tasks} == {"succeeded"}


@pytest.mark.background_tasks("capture")
def test_a_captured_task_may_add_to_its_own_queue(background_tasks: Recorder) -> None:
    queue = BackgroundTasks()

    def more() -> None:
        bgadapters.add_task(note, "current")
        queue.add_task(anote, "own")
        note("more")

    with queue:
        queue.add_task(more)
        queue.add_task(note, "after")
    assert background_tasks.run_pending() == 2
    assert whats() == ["more", "after", "current", "own"]


@pytest.mark.background_tasks("capture")
def test_a_captured_failure_is_raised_where_it_runs(background_tasks: Recorder) -> None:
    add(fail)
    with pytest.raises(ValueError, match="deep down"):
        background_tasks.run_pending()


@pytest.mark.background_tasks("capture")
def test_a_coroutine_awaits_captured_tasks(background_tasks: Recorder) -> None:
    async def main() -> None:
        async with BackgroundTasks() as queue:
            queue.add_task(note, 1)
            queue.add_task(anote, 2)
        assert ran == []
        with pytest.raises(RuntimeError, match="await arun_pending"):
            background_tasks.run_pending()
        assert await background_tasks.arun_pending() == 2
        assert whats() == [1, 2]

    asyncio.run(main())


def test_modes_can_be_changed(background_tasks: Recorder) -> None:
    background_tasks.capture()
    add(note, 1)
    background_tasks.run()
    add(note, 2)
    assert whats() == [2]
    background_tasks.run_pending()
    assert whats() == [2, 1]
    background_tasks.clear()
    background_tasks.assert_none()


def test_a_block_has_its_tasks_for_itself(background_tasks: Recorder) -> None:
    with capture_tasks() as captured:
        add(note, 1)
        with run_tasks() as inner:
            add(note, 2)
    assert whats() == [2]
    captured.assert_added_once(note, ANY)
    inner.assert_added_once(note, 2)
    background_tasks.assert_none()


@pytest.fixture(scope="class")
def captured() -> Iterator[Recorder]:
    with capture_tasks() as tasks:
        yield tasks


@pytest.mark.parametrize("what", ["first", "second"])
class TestABlockOfAFixture:
    """It outlasts a test, and is in force in the next."""

    def test_keeps_its_tasks(self, captured: Recorder, what: str) -> None:
        add(note, what)
        assert ran == []
        captured.assert_added_once(note, what)


def test_fails_for_what_a_block_has_left(background_tasks: Recorder) -> None:
    queue = BackgroundTasks()
    with capture_tasks():
        queue.add_task(fail)
    queue.release()
    background_tasks.assert_added_once(fail)


def test_strictness_is_an_attribute(background_tasks: Recorder) -> None:
    add(note, {"of": object})
    background_tasks.strict_portable = True
    with pytest.raises(bgadapters.NotPortableError):
        add(note, {"of": object})


@pytest.mark.background_tasks(strict_portable=True)
def test_strictness_is_a_mark() -> None:
    with pytest.raises(bgadapters.NotPortableError):
        add(lambda: None)


@pytest.mark.background_tasks("off")
def test_off_means_as_in_a_server() -> None:
    add(note, 1)
    assert bgadapters.drain() == []
    assert [thread.name.startswith("bgadapters-") for _, thread in ran] == [True]


@pytest.mark.background_tasks("off")
def test_errors_where_the_fixture_has_no_meaning(background_tasks: Recorder) -> None: ...


def test_a_forked_child_is_not_watched() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        done = threading.Event()
        with BackgroundTasks() as queue:
            queue.add_task(lambda: os.write(write, threading.current_thread().name.encode()))
            queue.add_task(done.set)
        done.wait(10)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read().startswith("bgadapters-")
