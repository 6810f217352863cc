"""``engine="process"`` on real servers: nothing waits for it, and nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.engines import process_work as work
from tests.engines.test_process import eventually, is_there
from tests.running import Running, running

_APP = "tests.engines.process_apps"
_SITE = "tests.engines.process_urls:application"
_GUNICORN = ["{bin}/gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket"]
SERVERS = {
    "uvicorn": ["{bin}/uvicorn", "--port", "{port}", f"{_APP}:fastapi_app"],
    "uvloop": ["{bin}/uvicorn", "--loop", "uvloop", "--port", "{port}", f"{_APP}:fastapi_app"],
    "granian": ["{bin}/granian", "--interface", "asgi", "--port", "{port}", f"{_APP}:fastapi_app"],
    "uvicorn-worker": [
        *_GUNICORN,
        *("--preload", "-k", "uvicorn.workers.UvicornWorker"),
        f"{_APP}:fastapi_app",
    ],
    "sync": [*_GUNICORN, "--preload", f"{_APP}:flask_app"],
    "gthread": [*_GUNICORN, "--threads", "4", f"{_APP}:flask_app"],
    "waitress": ["{bin}/waitress-serve", "--listen", "127.0.0.1:{port}", f"{_APP}:flask_app"],
    "uwsgi": [
        *("{bin}/uwsgi", "--http-socket", "127.0.0.1:{port}", "--module", f"{_APP}:flask_app"),
        *("--master", "--need-app", "--die-on-term", "--enable-threads", "--virtualenv"),
        "{bin}/..",
    ],
    "django": [*_GUNICORN, "--threads", "4", _SITE],
}
pytestmark = pytest.mark.host


def serving(tmp_path: Path, name: str) -> Any:
    command = SERVERS[name]
    program = Path(command[0].format(bin=Path(sys.executable).parent))
    if not program.exists():
        pytest.skip(f"{program.name} is not installed")
    environ = {
        "PROCESS_NOTES": str(tmp_path / "notes"),
        "DJANGO_SETTINGS_MODULE": "tests.engines.process_site",
    }
    return running(tmp_path, *command, **environ)


def get(server: Running, what: str) -> int:
    """Return the process that has answered."""
    with urllib.request.urlopen(f"{server.url}/{what}", timeout=30) as response:
        pid: int = json.load(response)["pid"]
    return pid


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers_while_it_computes_and_ends_after_that(tmp_path: Path, name: str) -> None:
    path = tmp_path / "notes"
    with serving(tmp_path, name) as server:
        own = get(server, "burn")
        eventually(lambda: work.notes(path))
        assert get(server, "look") > 0
        assert [each[1] for each in work.notes(path)] == ["begun"]
        ((pid, _),) = work.notes(path)
        assert pid != own
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        assert [each[1] for each in work.notes(path)] == ["begun", "ended"]
        eventually(lambda: not is_there(pid))
        assert "abandoned" not in server.log.read_text()


# Not gthread: its handler may wait for a lock that it holds itself, if SIGQUIT follows at once.
@pytest.mark.parametrize("name", ["uvicorn", "waitress"])
def test_a_terminal_that_interrupts_all_processes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "notes"
    with serving(tmp_path, name) as server:
        get(server, "burn")
        eventually(lambda: work.notes(path))
        os.killpg(server.process.pid, signal.SIGINT)
        server.process.wait(30)
        assert [each[1] for each in work.notes(path)] == ["begun", "ended"]


@pytest.mark.parametrize("name", ["uvicorn", "sync", "uwsgi"])
def test_a_server_that_is_killed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "notes"
    with serving(tmp_path, name) as server:
        own = get(server, "hang")
        eventually(lambda: work.notes(path))
        ((pid, _),) = work.notes(path)
        assert is_there(pid)
        os.kill(own, signal.SIGKILL)
        eventually(lambda: not is_there(pid))


def test_django_is_set_up_there(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    with serving(tmp_path, "django") as server:
        for _ in range(2):
            get(server, "database")
        eventually(lambda: len(work.notes(path)) == 2)
        (first, *seen), (second, *again) = work.notes(path)
        assert seen == again == ["auth.User", "fr", False]  # connections end with the task
        assert first == second
