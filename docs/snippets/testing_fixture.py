from unittest.mock import ANY

import pytest
from fastapi.testclient import TestClient

from fastapi_first import app, write_notification


@pytest.mark.background_tasks("capture")
def test_asks_for_a_notification(background_tasks):
    TestClient(app).post("/send-notification/ada@example.com")
    background_tasks.assert_added_once(write_notification, "ada@example.com", message=ANY)
    background_tasks.assert_not_added(write_notification, "bob@example.com")


@pytest.mark.background_tasks("capture")
def test_run_some_of_them_later(background_tasks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = TestClient(app)
    client.post("/send-notification/ada@example.com")
    client.post("/send-notification/bob@example.com")
    background_tasks.run_pending(lambda task: task.args == ("bob@example.com",))
    ada, bob = background_tasks.tasks
    assert (ada.path, ada.outcome) == ("/send-notification/ada@example.com", "pending")
    assert (bob.func, bob.outcome) == (write_notification, "succeeded")
