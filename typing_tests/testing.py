"""Checked, never run: the toolkit for tests."""

from __future__ import annotations

from typing import assert_type
from unittest import TestCase
from unittest.mock import ANY

from bgadapters.testing import (
    BackgroundTasksTestMixin,
    RecordedTask,
    Recorder,
    capture_tasks,
    run_tasks,
)


def write_notification(email: str, message: str = "") -> None: ...


def right(background_tasks: Recorder) -> None:
    assert_type(background_tasks.assert_added(write_notification, ANY), RecordedTask)
    assert_type(background_tasks.assert_added_once(write_notification, ...), RecordedTask)
    assert_type(background_tasks.assert_not_added(write_notification), None)
    assert_type(background_tasks.run_pending(lambda task: task.path == "/"), int)
    with capture_tasks(strict_portable=True) as captured, run_tasks(timeout=1) as ran:
        assert_type(captured, Recorder)
        assert_type([task.exception for task in ran.tasks], list[BaseException | None])
    background_tasks.strict_portable = True


async def right_on_a_loop(background_tasks: Recorder) -> None:
    assert_type(await background_tasks.arun_pending(), int)


class Tests(BackgroundTasksTestMixin, TestCase):
    background_tasks_mode = "capture"

    def test_it(self) -> None:
        assert_type(self.background_tasks, Recorder)


def wrong(background_tasks: Recorder) -> None:
    background_tasks.assert_none(write_notification)  # type: ignore[call-arg]
    background_tasks.run_pending("a name")  # type: ignore[arg-type]
    Recorder("off")  # type: ignore[arg-type]
    capture_tasks(timeout=1)  # type: ignore[call-arg]
