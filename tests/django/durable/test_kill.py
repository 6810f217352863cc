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

from bgadapters.django.durable.models import StoredTask
from tests.engines.bench import until
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


def kept(alias: str) -> set[int]:
    """Return the numbers of those that the database has."""
    payloads = StoredTask.objects.using(alias).values_list("payload", flat=True)
    return {json.loads(each)["a"][0] for each in payloads}


def kill(server: Running) -> None:
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@pytest.mark.parametrize("name", SERVERS)
def test_what_was_answered_runs_after_a_kill(
    name: str, alias: str, environ: dict[str, str], tmp_path: Path
) -> None:
    with running(tmp_path, *SERVERS[name], **environ) as server:
        with ThreadPoolExecutor(1) as beside:
            adding = beside.submit(add, server, range(REQUESTS))
            until(lambda: len(done(environ)) > 2 and kept(alias))
            kill(server)
        answered, left, had_ended = set(adding.result()), kept(alias), set(done(environ))
    assert answered
    assert left | had_ended >= answered
    with running(tmp_path, *SERVERS[name], **environ) as server:
        assert httpx.get(f"{server.url}/is-it-up").status_code == 200
        deadline = time.monotonic() + _PATIENCE
        while (found := done(environ)).keys() < left | had_ended and time.monotonic() < deadline:
            time.sleep(0.05)  # nobody tells
    assert found.keys() == left | had_ended, server.log.read_text()
    # What was running, or had just ended, and nothing that was taken out of the database.
    assert {number for number, count in found.items() if count > 1} <= left & had_ended
    assert max(found.values()) <= 2
