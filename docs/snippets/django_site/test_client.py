from pathlib import Path

from bgadapters.testing import BackgroundTasksTestMixin
from django.test import SimpleTestCase

from django_site.first import write_notification


class NotificationTests(BackgroundTasksTestMixin, SimpleTestCase):
    def test_sync(self):
        self.client.post("/send-notification/ada@example.com")
        self.background_tasks.assert_added_once(
            write_notification, "ada@example.com", message="some notification"
        )
        self.assertIn("ada@example.com", Path("log.txt").read_text())  # the task has run

    async def test_async(self):
        await self.async_client.post("/send-mail/bob@example.com")
        self.assertIn("bob@example.com", Path("log.txt").read_text())
