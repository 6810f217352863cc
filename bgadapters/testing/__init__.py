"""Tests of code that adds tasks: a pytest plugin, a context manager, a mixin for unittest.

Beside pytest the plugin is there by itself; see the fixture ``background_tasks``. Without it::

    with capture_tasks() as tasks:
        client.post("/send-notification/ada@example.org")
    tasks.assert_added_once(write_notification, "ada@example.org", message="some notification")
"""

from bgadapters.testing.blocks import BackgroundTasksTestMixin, capture_tasks, run_tasks
from bgadapters.testing.recorded import RecordedTask
from bgadapters.testing.recorder import LeakedTasksError, Recorder

__all__ = [
    "BackgroundTasksTestMixin",
    "LeakedTasksError",
    "RecordedTask",
    "Recorder",
    "capture_tasks",
    "run_tasks",
]
