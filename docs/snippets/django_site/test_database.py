from pathlib import Path

from bgadapters import drain
from django.test import TransactionTestCase


class AccountTests(TransactionTestCase):
    def test_the_task_sees_the_account(self):
        self.client.post("/create-account/cleo@example.com")
        drain()
        self.assertIn("cleo@example.com: welcome", Path("log.txt").read_text())
