"""The recorder as a context manager, and as a mixin for ``unittest``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bgadapters.core.model import mode
from bgadapters.testing.mode import observed_by
from bgadapters.testing.recorder import TIMEOUT, Mode, Recorder

if TYPE_CHECKING:
    from unittest import TestCase as _Base
    from unittest import TestResult
else:
    _Base = object


@contextmanager
def capture_tasks(*, strict_portable: bool = False) -> Iterator[Recorder]:
    """Record the tasks whose responses end in this block. They do not run by themselves.

    ::

        with capture_tasks() as tasks:
            client.post("/send-notification/ada@example.org")
        tasks.assert_added_once(write_notification, "ada@example.org", message=ANY)
        tasks.run_pending()

    Args:
        strict_portable: as for `Recorder`.
    """
    recorder = Recorder("capture", strict_portable=strict_portable)
    with observed_by(recorder):
        yield recorder


@contextmanager
def run_tasks(
    *,
    strict_portable: bool = False,
    ignore_failures: bool = False,
    real_time: bool = False,
    timeout: float = TIMEOUT,
) -> Iterator[Recorder]:
    """Run the tasks of responses before the calls that make these return, and judge at the end.

    If the block raises, its exception gets a note of each task that failed or leaked.

    Args:
        strict_portable: as for `Recorder`.
        ignore_failures: as for `Recorder`.
        real_time: as for `Recorder`.
        timeout: seconds that the end of the block waits for what still runs.

    Raises:
        LeakedTasksError: as `Recorder.finish`.
        BaseException: what a task raised, as `Recorder.raise_failures`.
    """
    __tracebackhide__ = True
    recorder = Recorder(
        strict_portable=strict_portable, ignore_failures=ignore_failures, real_time=real_time
    )
    with _judged(recorder, timeout):
        yield recorder


@contextmanager
def _judged(recorder: Recorder, timeout: float) -> Iterator[None]:
    __tracebackhide__ = True
    with observed_by(recorder):
        try:
            yield
        except BaseException as exc:
            recorder.finish(timeout, exc)
            raise
        recorder.finish(timeout)


class BackgroundTasksTestMixin(_Base):
    """For ``unittest`` and ``django.test`` without pytest: list it before the test case class.

    ::

        class SignUpTests(BackgroundTasksTestMixin, TestCase):
            def test_sign_up(self):
                self.client.post("/sign-up/ada@example.org")
                self.background_tasks.assert_added_once(send_welcome, "ada@example.org")

    Attributes:
        background_tasks: the `Recorder` of the test.
        background_tasks_mode: ``"run"`` (the default) or ``"capture"``.
        background_tasks_strict_portable: as ``strict_portable`` of `Recorder`. Default False.
        background_tasks_real_time: as ``real_time`` of `Recorder`. Default False.
        background_tasks_timeout: seconds that the end of a test waits for what still runs.
            Default 10.
    """

    background_tasks: Recorder
    background_tasks_mode: Mode = "run"
    background_tasks_strict_portable: bool = False
    background_tasks_real_time: bool = False
    background_tasks_timeout: float = TIMEOUT

    @classmethod
    def setUpClass(cls) -> None:
        """Observe from here to the tear-down of the class, beside its tests.

        A task that failed or leaked there is an error of the class. Below the plugin of pytest it
        is one of the test that is about to run.
        """
        if mode.active is mode.SERVING:
            cls.enterClassContext(
                _judged(cls._background_tasks_recorder(), cls.background_tasks_timeout)
            )
        super().setUpClass()

    @classmethod
    def _background_tasks_recorder(cls) -> Recorder:
        return Recorder(
            cls.background_tasks_mode,
            strict_portable=cls.background_tasks_strict_portable,
            real_time=cls.background_tasks_real_time,
        )

    def run(self, result: TestResult | None = None) -> TestResult | None:
        """Run the test, watched; a task that failed or leaked is an error of the test."""
        self.background_tasks = self._background_tasks_recorder()
        with observed_by(self.background_tasks):
            # The first one that is added is the last one that is called, after tearDown().
            self.addCleanup(self.background_tasks.finish, self.background_tasks_timeout)
            return super().run(result)
