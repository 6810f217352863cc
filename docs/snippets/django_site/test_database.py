from pathlib import Path

from bgadapters.testing import BackgroundTasksTestMixin
from django.test import TestCase


class AccountTests(BackgroundTasksTestMixin, TestCase):
    def test_the_task_sees_the_account(self):
        self.client.post("/create-account/cleo@example.com")
        self.assertIn("cleo@example.com: welcome", Path("log.txt").read_text())
