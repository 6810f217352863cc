"""A server within a program, which handles the signals itself."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.running import running

pytestmark = pytest.mark.host


def test_a_program_with_uvicorn_in_it_ends_within_the_drain_timeout(tmp_path: Path) -> None:
    command = sys.executable, "-m", "tests.hosts.apps.embedded", "{port}"
    with running(tmp_path, *command) as server:
        httpx.get(f"{server.url}/")
        deadline = time.monotonic() + 20
        while "it runs" not in server.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        server.process.terminate()
        assert server.process.wait(20) == 0
    assert "1 background task(s) abandoned" in server.log.read_text()
