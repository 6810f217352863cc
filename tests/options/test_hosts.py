"""A debounce and a limit on real servers, over real connections; under gevent too."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.running import Running, running

pytestmark = pytest.mark.host

_APP = "tests.options.host_app"
_GUNICORN = ["{bin}/gunicorn", "-b", "127.0.0.1:{port}"]
SERVERS = {
    "gthread": [*_GUNICORN, "--threads", "4", f"{_APP}:flask_app"],
    "gevent": [*_GUNICORN, "-k", "gevent", f"{_APP}:flask_app"],
    "uvicorn": ["{bin}/uvicorn", "--port", "{port}", f"{_APP}:fastapi_app"],
}


def get(server: Running, what: str) -> Any:
    with urllib.request.urlopen(f"{server.url}/{what}", timeout=30) as response:
        return json.load(response)


def until(server: Running, ends: list[str]) -> Any:
    """Ask until these tasks have ended, and return what is known then."""
    deadline = time.monotonic() + 30
    while True:
        answer = get(server, "look")
        if sorted(answer["log"]) == sorted(ends):
            return answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


@pytest.mark.parametrize("name", SERVERS)
def test_a_debounce_and_a_limit(tmp_path: Path, name: str) -> None:
    if name == "gevent":
        pytest.importorskip("gevent")
    with running(tmp_path, *SERVERS[name]) as server:
        for number in range(3):
            get(server, f"debounce-{number}")
        threads = [
            threading.Thread(target=get, args=(server, f"limit-{number}")) for number in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        limited = [f"{number} succeeded" for number in "aabbccdd"]
        answer = until(server, ["0 replaced", "1 replaced", "2 succeeded", *limited])
        assert answer["peak"] == 2


@pytest.mark.parametrize("name", SERVERS)
def test_no_attempt_is_lost_when_the_server_ends(tmp_path: Path, name: str) -> None:
    """What waits for a back-off gets its attempt; what has asked for a later time is named."""
    if name == "gevent":
        pytest.importorskip("gevent")
    with running(tmp_path, *SERVERS[name]) as server:
        get(server, "retry-one")
        get(server, "asks-patience")
        until(server, ["one sync attempt 1", "one async attempt 1", "throttled"])
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
        said = server.log.read_text()
        assert "one sync attempt 2" in said
        assert "one async attempt 2" in said
        assert "1 background task(s) abandoned" in said
        assert "patience" in said.partition("abandoned")[2].splitlines()[0]
