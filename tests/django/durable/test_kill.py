"""SIGKILL in the middle: what a client was told of runs once the project is served again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from django.db import connections

from tests.running import Running, running

SITE = "tests.durable_site.settings"
SERVERS = {
    "gunicorn": (
        "{bin}/gunicorn",
        "--worker-class=gthread",
        "--workers=2",
        "--threads=4",
        "--bind=127.0.0.1:{port}",
        f"{SITE}:wsgi()",
    ),
    "uvicorn": ("{bin}/uvicorn", "--factory", "--port={port}", f"{SITE}:asgi"),
}
REQUESTS = 24
_PATIENCE = 40.0

pytestmark = pytest.mark.host


@pytest.fixture
def environ(alias: str, tmp_path: Path) -> dict[str, str]:
    settings = connections.settings[alias]
    names = "ENGINE", "NAME", "HOST", "PORT", "USER"
    database = {name: settings[name] for name in names if settings.get(name)}
    return {
        "DATABASE": json.dumps(database),
        "DJANGO_SETTINGS_MODULE": SITE,
        "DONE": str(tmp_path / "done"),
    }


def add(server: Running, numbers: range) -> list[int]:
    """Add tasks; return those of which a client has the whole response."""

    def add_one(number: int) -> int | None:
        with suppress(httpx.HTTPError):
            reply = httpx.get(f"{server.url}/add", params={"number": number}, timeout=20)
            if reply.status_code == 200 and reply.text == str(number):
                return number
        return None

    with ThreadPoolExecutor(4) as pool:
        return [each for each in pool.map(add_one, numbers) if each is not None]


def done(environ: dict[str, str]) -> Counter[int]:
    file = Path(environ["DONE"])
    return Counter(map(int, file.read_text().split())) if file.exists() else Counter()


def kill(server: Running) -> None:
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@pytest.mark.parametrize("name", SERVERS)
def test_what_was_answered_runs_after_a_kill(
    name: str, environ: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path, *SERVERS[name], **environ) as server:
        answered = add(server, range(REQUESTS))
        assert answered == list(range(REQUESTS))
        assert len(done(environ)) < REQUESTS
        kill(server)
    with running(tmp_path, *SERVERS[name], **environ) as server:
        assert httpx.get(f"{server.url}/is-it-up").status_code == 200
        deadline = time.monotonic() + _PATIENCE
        while len(found := done(environ)) < REQUESTS and time.monotonic() < deadline:
            time.sleep(0.05)  # nobody tells
    assert sorted(found) == answered, server.log.read_text()
    running_at_the_kill = 2 * 2  # workers of each process
    assert sum(found.values()) - REQUESTS <= running_at_the_kill
