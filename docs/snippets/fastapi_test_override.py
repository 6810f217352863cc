import pytest
from bgadapters.fastapi import get_background_tasks
from fastapi.testclient import TestClient

from fastapi_first import app, write_notification


class Recorder:
    def __init__(self):
        self.calls = []

    def add_task(self, func, *args, **kwargs):
        self.calls.append((func, args, kwargs))


@pytest.fixture
def recorder():
    recorder = Recorder()
    app.dependency_overrides[get_background_tasks] = lambda: recorder
    yield recorder
    app.dependency_overrides.clear()


def test_asks_for_a_notification(recorder):
    TestClient(app).post("/send-notification/ada@example.com")
    expected = (write_notification, ("ada@example.com",), {"message": "some notification"})
    assert recorder.calls == [expected]
