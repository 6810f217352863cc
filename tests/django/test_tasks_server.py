"""A real server: the response comes first, then the tasks, in the order that is promised."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.django.task_frameworks import BACKENDS, PACKAGES, missing
from tests.hosts.client import Client
from tests.running import running

PATIENCE = 20.0


def until(what: Any, log: Path) -> Any:
    """Wait for what nothing tells of: another process's files."""
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("framework", PACKAGES)
@pytest.mark.parametrize("end", ["served on", "ended"])
def test_the_response_comes_first(framework: str, end: str, tmp_path: Path) -> None:
    if why := missing(framework):
        pytest.skip(why)
    name = tmp_path / "file"
    journal = Path(f"{name}.journal")
    server = ("{bin}/gunicorn", "tests.tasks_site.wsgi", "--threads", "2", "--no-control-socket")
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.tasks_site.settings",
        "TASKS_BACKEND": BACKENDS[framework],
        "TASKS_PACKAGE": PACKAGES[framework],
    }
    with (
        running(tmp_path, *server, "--bind", "127.0.0.1:{port}", **environ) as site,
        Client(site.port) as client,
    ):
        log = site.log
        response = client.request("GET", f"/enqueue?name={name}")
        assert response.status == 200, log.read_text()
        first = json.loads(response.body)
        assert first["status"] == "READY"

        # The response is here, and the first task runs until the file is: it cannot be over.
        def status() -> Any:
            return json.loads(client.request("GET", f"/status?id={first['id']}").body)

        assert status() != {"status": "SUCCESSFUL", "attempts": 1}
        assert not journal.exists() or "found" not in journal.read_text()
        if end == "served on":
            name.touch()
            until(lambda: status()["status"] == "SUCCESSFUL", log)
            until(lambda: "later" in journal.read_text(), log)
        else:  # nothing is lost when the server ends
            client.close()  # gunicorn 25.1 waits for connections that are kept
            site.process.send_signal(signal.SIGTERM)
            name.touch()
            assert site.process.wait(PATIENCE) == 0
    lines = journal.read_text().splitlines()
    assert sorted(lines) == ["found", "high", "later", "low", "plain"]
    assert lines[0] == "high"  # it does not wait for its response's own
    assert [line for line in lines if line in {"found", "plain"}] == ["found", "plain"]
    assert lines.index("plain") < lines.index("low")
    assert "Traceback" not in log.read_text()
