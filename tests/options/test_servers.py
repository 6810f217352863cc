"""``flush()`` in the stream of a real server: tasks run while the client reads."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from tests.running import running

_APPS = "tests.options.stream_apps"
_GUNICORN = ("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "5")

SERVERS = {
    "uvicorn": ("{bin}/uvicorn", "--port", "{port}", f"{_APPS}:fastapi_app"),
    "hypercorn": ("{bin}/hypercorn", "--bind", "127.0.0.1:{port}", f"{_APPS}:fastapi_app"),
    "gunicorn, gthread": (*_GUNICORN, "--threads", "2", f"{_APPS}:flask_app"),
    "gunicorn, sync": (*_GUNICORN, f"{_APPS}:flask_app"),
    "gunicorn, gevent": (*_GUNICORN, "--worker-class", "gevent", f"{_APPS}:flask_app"),
}


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:
        body: bytes = response.read()
    return body.decode()


@pytest.mark.host
@pytest.mark.parametrize("name", SERVERS)
def test_tasks_run_while_the_client_reads(tmp_path: Path, name: str) -> None:
    if "gevent" in name:
        pytest.importorskip("gevent")
    with running(tmp_path, *SERVERS[name]) as server:
        lines = get(f"{server.url}/stream").splitlines()
        assert [line.strip() for line in lines] == ["part 0", "part 1", "part 2"]
        assert get(f"{server.url}/last").strip('"') == "the end: 200"
