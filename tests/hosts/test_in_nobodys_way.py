"""Tasks that hold the interpreter's lock cost other requests little, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from benchmarks.beside import measure_load
from benchmarks.load import Client
from benchmarks.measure import percentile
from benchmarks.server import running
from tests.core.test_lock_watch import needs_clocks

_APP = "tests.hosts.apps.beside"
SERVERS = {
    "uvicorn": ("uvicorn", "--port", "{port}", "--log-level", "error", f"{_APP}:asgi"),
    "gthread": (
        *("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error"),
        *("--threads", "16", "--no-control-socket", f"{_APP}:wsgi"),
    ),
}
RATE, SECONDS = 30, 3.0  # more tasks of 50 ms than one interpreter can run


def middle_and_tail(command: Sequence[str]) -> tuple[float, float]:
    """The 75th and the 95th percentile of another view while tasks compute, in seconds."""

    async def measure(port: int) -> list[float]:
        await Client(port).open("/none", 100, 20)
        await measure_load(port, "bgadapters", RATE, 1.0, 0)  # until it is known what they do
        load = await measure_load(port, "bgadapters", RATE, SECONDS, 0)
        assert load.errors == 0
        return load.latencies

    with running(command) as port:
        latencies = asyncio.run(measure(port))
    return percentile(latencies, 75), percentile(latencies, 95)


@needs_clocks
@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("served_by", SERVERS)
def test_other_requests_wait_as_beside_one_such_task(
    served_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as beside as many as there are workers."""
    with monkeypatch.context() as patched:
        patched.setenv("UNWATCHED", "1")
        before = middle_and_tail(SERVERS[served_by])
    now = middle_and_tail(SERVERS[served_by])
    assert now[0] < before[0] / 2
    assert now[1] < before[1] / 2
