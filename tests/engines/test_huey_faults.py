"""Huey where something dies or is locked: what is lost, and what is not."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bgadapters.stores import StoredTasks
from tests.durable.storm import Storm, kill
from tests.engines.bench import PATIENCE, Bench, until
from tests.engines.web import Web
from tests.hosts.servers import free_port
from tests.running import Running, running

pytest.importorskip("huey")

from tests.engines import huey_app, work
from tests.engines.test_huey import RedisBench, SqliteBench

GTHREAD = (
    *("{bin}/gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "4"),
    *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "15", "--log-level", "warning"),
    "tests.engines.huey_site:application",
)
HOW = {
    "after_response": "",
    "before_response": "&send=before_response",
    "durable": "&durable=1",
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SqliteBench]:
    made = SqliteBench(tmp_path)
    yield made
    made.close()


@contextmanager
def serving(bench: SqliteBench, **environ: str) -> Iterator[Running]:
    """Serve the site, whose tasks go to this bench."""
    environ = {
        **huey_app.environ(bench.kind, bench.name, bench.options()),
        huey_app.STORE: f"sqlite:///{bench.directory}/store.db",
        work.LOG: str(bench.file),
        **environ,
    }
    with running(bench.directory, *GTHREAD, **environ) as server:
        yield server


def ran(bench: Bench) -> Counter[str]:
    """How often each task has run, by its name."""
    return Counter(line.what for line in bench.lines(kind="ran"))


def wait_until_all_is_done(bench: SqliteBench, storm: Storm, killed: Collection[int] = ()) -> None:
    """Wait until what living processes have answered has run, and nothing waits any more."""
    living = {name for name, pid in storm.answered.items() if pid not in killed}
    until(lambda: ran(bench).keys() >= living, lambda: str(living - ran(bench).keys()))
    if (bench.directory / "store.db").exists():
        store = StoredTasks(f"sqlite:///{bench.directory}/store.db")
        until(lambda: store.count() == {"waiting": 0, "failed": 0}, bench.said)
    until(lambda: not bench.waiting(), bench.said)
    web = Web(bench.engine())
    bench.wait_for(web.send(work.note, "the last one"), "succeeded")
    web.close()


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_a_web_process_is_killed(bench: SqliteBench, how: str) -> None:
    """Again and again, while it serves. Only what waits in its memory alone is lost."""
    choice, killed = random.Random(how), []
    with bench.worker(), serving(bench) as server:
        with Storm(server.port, 120, HOW[how]) as storm:
            for number in range(1, 3):
                storm.wait_for(number * 40)
                killed.append(list(storm.answered.values())[-choice.randrange(1, 8)])
                kill(killed[-1])
        wait_until_all_is_done(bench, storm, killed)
    found = ran(bench)
    lost = storm.answered.keys() - found.keys()
    twice = [name for name, times in found.items() if times > 1]
    print(
        f"\n{how}: {len(storm.answered)} answered, {storm.broken} not, in {len(killed)} kills; "
        f"{len(lost)} of those answered were lost, {len(twice)} ran twice"
    )
    if how == "after_response":
        assert {storm.answered[name] for name in lost} <= set(killed)
    else:
        assert not lost
    if how != "durable":
        assert not twice


@pytest.mark.parametrize("durable", [False, True])
def test_a_consumer_is_killed_in_the_middle_of_a_task(bench: SqliteBench, durable: bool) -> None:
    """Huey has deleted it before it runs: it is lost, and those behind it are not."""
    gate = bench.directory / "gate"
    web = Web(bench.engine(), store=f"sqlite:///{bench.directory}/store.db")
    with bench.worker() as consumer:
        lost = web.send(work.wait, str(gate), durable=durable)
        bench.wait_for(lost, "ran")
        behind = [web.send(work.note, number) for number in range(5)]
        os.killpg(consumer.pid, signal.SIGKILL)
        consumer.wait()
    gate.touch()
    with bench.worker():
        for each in behind:
            bench.wait_for(each, "succeeded")
    web.close()
    assert bench.waiting() == 0
    assert [line.kind for line in bench.lines(lost)] == ["started", "ran"], "it has not ended"


@pytest.mark.parametrize(
    ("workers", "how", "ends"),
    [
        ("thread", signal.SIGINT, "succeeded"),
        ("thread", signal.SIGTERM, "succeeded"),
        ("process", signal.SIGINT, "succeeded"),
        ("process", signal.SIGTERM, "abandoned"),
    ],
)
def test_a_consumer_that_is_told_to_end(
    bench: SqliteBench, workers: str, how: signal.Signals, ends: str
) -> None:
    """It finishes its task, but for SIGTERM with workers of processes: there that is broken off."""
    gate = bench.directory / "gate"
    web = Web(bench.engine())
    with bench.worker("-k", workers) as consumer:
        running_one = web.send(work.wait, str(gate))
        bench.wait_for(running_one, "ran")
        consumer.send_signal(how)
        until(lambda: "hutting down" in bench.said(), bench.said)
        if ends == "succeeded":
            assert consumer.poll() is None
            gate.touch()
        consumer.wait(PATIENCE)
    web.close()
    assert bench.lines(running_one)[-1].kind == ends
    assert ("was broken off by a signal" in bench.said()) is (ends == "abandoned")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server of Redis to do something to: its port, and its process."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    port = free_port()
    quiet = ("--save", "", "--appendonly", "no", "--dir", str(tmp_path))
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", *quiet]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield port, process
        process.kill()


def test_a_redis_that_stands_still(
    tmp_path: Path, redis: tuple[int, subprocess.Popen[bytes]]
) -> None:
    """It has a connection and does not answer. What it has got then it may have got twice."""
    port, server = redis

    class OwnRedis(RedisBench):
        def options(self) -> dict[str, Any]:
            return {"host": "127.0.0.1", "port": port}

    bench = OwnRedis(tmp_path)
    until(lambda: _answers(bench))
    web = Web(bench.engine(timeout=0.5, patience=PATIENCE), drain_timeout=PATIENCE)
    ids = [web.send(work.note, "before")]
    server.send_signal(signal.SIGSTOP)
    try:
        ids.append(web.add(work.note, "meanwhile"))
        web.wait_for("retrying")
    finally:
        server.send_signal(signal.SIGCONT)
    web.wait_for("sent", 2)
    with bench.worker():
        for each in ids:
            bench.wait_for(each, "succeeded")
        until(lambda: not bench.waiting(), bench.said)
        bench.wait_for(web.send(work.note, "after"), "succeeded")
    web.close()
    assert ran(bench)["before"] == 1
    print(f"\na Redis that stood still has got the task {ran(bench)['meanwhile']} times")
    bench.close()
    bench.huey.storage.pool.disconnect()


def _answers(bench: RedisBench) -> bool:
    with suppress(Exception):  # it begins
        return bench.waiting() == 0
    return False


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_a_file_that_is_locked_for_seconds(bench: SqliteBench, how: str) -> None:
    """Responses go on, but those that have to have it before; nothing is lost, or runs twice."""
    with bench.worker(), serving(bench, **{huey_app.TIMEOUT: "1"}) as server:
        locked = sqlite3.connect(
            bench.options()["filename"], isolation_level=None, check_same_thread=False, timeout=30
        )
        with Storm(server.port, 100, HOW[how]) as storm:
            storm.wait_for(20)
            locked.execute("begin exclusive")
            began = time.monotonic()
            if how == "after_response":  # they are answered meanwhile
                storm.wait_for(90)
            while time.monotonic() - began < 2.0:
                time.sleep(0.05)
            locked.execute("rollback")
        locked.close()
        wait_until_all_is_done(bench, storm)
    found = ran(bench)
    print(f"\n{how}: {len(storm.answered)} answered, {storm.broken} not, file locked for 2 s")
    assert not storm.answered.keys() - found.keys()
    assert not [name for name, times in found.items() if times > 1]
    assert (storm.broken == 0) is (how != "before_response")
