"""A store that takes its time: who waits for it, and who does not."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.durable.storm import GTHREAD, ONE_PROCESS, PATIENCE, Place
from tests.durable.work import STORE
from tests.running import Running

pytestmark = pytest.mark.host

GEVENT = (
    *("{bin}/gunicorn", "--worker-class", "gevent", "--workers", "1"),
    *GTHREAD[GTHREAD.index("--bind") :],
)
SERVERS = {"gevent": GEVENT, "uvicorn": ONE_PROCESS}


def ask(server: Running, path: str) -> int:
    with urlopen(f"{server.url}{path}", timeout=PATIENCE) as response:
        return int(response.status)


@pytest.mark.parametrize("name", SERVERS)
def test_other_requests_go_on(tmp_path: Path, name: str) -> None:
    """On one thread, be it that of an event loop or of gevent's hub."""
    if name == "gevent":
        pytest.importorskip("gevent")
    place = Place(tmp_path)
    with place.serving(*SERVERS[name]) as server, ThreadPoolExecutor(1) as client:
        assert ask(server, "/task?name=first") == 200
        place.wait_until_empty()
        connection = sqlite3.connect(place.file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")  # nobody else can write
        waits = client.submit(ask, server, "/task?name=second")
        for _ in range(20):
            with pytest.raises(OSError, match="404"):
                ask(server, "/is-it-up")
        assert not waits.done()
        connection.execute("ROLLBACK")
        connection.close()
        assert waits.result(PATIENCE) == 200
        place.wait_until_empty()
    assert place.ended() == {"first", "second"}


@pytest.mark.parametrize(
    ("command", "path"),
    [(GTHREAD, "/task"), (GTHREAD, "/stream"), (GTHREAD, "/write"), (ONE_PROCESS, "/task")],
    ids=["gthread", "gthread-stream", "gthread-write", "uvicorn"],
)
def test_what_cannot_be_kept_is_one_response(
    tmp_path: Path, command: tuple[str, ...], path: str
) -> None:
    """Of that of the view, which is not to be sent, the client gets no header."""
    place = Place(tmp_path)
    environ = {STORE: f"{place.url}&busy_timeout=0.1"}
    with place.serving(*command, **environ) as server:
        assert ask(server, f"{path}?name=first") == 200
        place.wait_until_empty()
        connection = sqlite3.connect(place.file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")  # nobody else can write
        with pytest.raises(HTTPError) as caught:
            ask(server, f"{path}?name=second")
        connection.execute("ROLLBACK")
        connection.close()
        reply = caught.value
        assert reply.code == 503
        assert reply.headers.get_all("Retry-After") == ["10"]
        assert reply.headers.get_all("Content-Length") in (None, [str(len(reply.read()))])
        assert len(reply.headers.get_all("Content-Type", [])) == 1
        assert "Of" not in reply.headers
        assert ask(server, f"{path}?name=third") == 200
        place.wait_until_empty()
    assert place.ended() == {"first", "third"}
