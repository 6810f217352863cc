from pathlib import Path

import pytest
from rest_framework.test import APIClient


@pytest.fixture(autouse=True)
def a_log_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_client(client):
    client.post("/send-notification/ada@example.com")
    assert "ada@example.com" in Path("log.txt").read_text()


@pytest.mark.anyio
async def test_async_client(async_client):
    await async_client.post("/send-mail/bob@example.com")
    assert "bob@example.com" in Path("log.txt").read_text()


def test_rest_framework(background_tasks):
    APIClient().post("/rest/cleo@example.com")
    (task,) = background_tasks.tasks
    assert (task.args, task.outcome) == (("cleo@example.com",), "succeeded")


@pytest.mark.django_db(transaction=True)
def test_database(client):
    client.post("/create-account/dora@example.com")
    assert "dora@example.com: welcome" in Path("log.txt").read_text()
