from pathlib import Path

from bgadapters import adrain, drain
from django.test import SimpleTestCase


class NotificationTests(SimpleTestCase):
    def test_sync(self):
        self.client.post("/send-notification/ada@example.com")
        drain()
        self.assertIn("ada@example.com", Path("log.txt").read_text())

    async def test_async(self):
        await self.async_client.post("/send-mail/bob@example.com")
        await adrain()
        self.assertIn("bob@example.com", Path("log.txt").read_text())
