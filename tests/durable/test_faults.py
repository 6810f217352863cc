"""Durable tasks on real servers that are killed: what was answered runs, once unless it was met."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.durable.storm import (
    ONE_PROCESS,
    SERVERS,
    UVICORN,
    Place,
    Storm,
    ask,
    judge,
    kill,
    kill_all,
)
from tests.hosts.client import Broken
from tests.running import ROOT, Running

pytestmark = pytest.mark.host
servers = pytest.mark.parametrize("server", SERVERS)


def _slow(parameter: object) -> ParameterSet:
    return pytest.param(parameter, marks=pytest.mark.slow)


@pytest.mark.slow
@servers
@pytest.mark.parametrize("whom", ["worker", "all", "master"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_answered_before_a_kill_runs(
    tmp_path: Path, server: str, whom: str, seed: int
) -> None:
    _storm(tmp_path, server, whom, seed, 1000)


def test_what_was_answered_before_a_kill_runs_in_short(tmp_path: Path) -> None:
    _storm(tmp_path, "gthread", "worker", 0, 200)


def _storm(directory: Path, server: str, whom: str, seed: int, total: int) -> None:
    """Kill somebody at a random moment, go on, kill all, start again."""
    choice = random.Random(f"{server} {whom} {seed}")
    place = Place(directory)
    kills = []
    with place.serving(*SERVERS[server]) as first:
        with Storm(first.port, total) as storm:
            storm.wait_for(choice.randrange(total // 10, total * 8 // 10))
            time.sleep(choice.uniform(0, 0.02))  # somewhere within a request
            if whom == "worker":
                kills.append(kill(choice.choice(list(storm.answered.values()))))
            elif whom == "master":
                kills.append(kill(first.process.pid))
                time.sleep(choice.uniform(0, 1))  # it is for the workers to notice
                storm.stop()
            else:
                kills.append(kill_all(first))
                storm.stop()
        kills.append(kill_all(first))
    with place.serving(*SERVERS[server]):
        place.wait_until_empty()
    outcome = judge(storm, place, kills)
    print(f"\n{server}, {whom} killed, seed {seed}: {outcome}")
    assert place.stored.count() == {"waiting": 0, "failed": 0}


@pytest.mark.skipif(shutil.which("cc") is None, reason="compiles what notes the state of the disk")
@pytest.mark.parametrize("synchronous", ["FULL", _slow("NORMAL")])
def test_a_loss_of_power(tmp_path: Path, synchronous: str) -> None:
    """All that was written after the last fsync of each file is gone, as if the plug was pulled.

    With NORMAL tasks may be lost by it: that shows that this test would see it.
    """
    library = tmp_path / "synced.so"
    source = Path(__file__).with_name("synced.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    before, after = (
        Place(_made(tmp_path / name), synchronous=synchronous) for name in ("before", "after")
    )
    environ = {"LD_PRELOAD": str(library), "STORE_FILE": str(before.file)}
    with (
        before.serving(*UVICORN, **environ) as server,
        Storm(server.port, 2000, "&seconds=0.1") as storm,
    ):
        storm.wait_for(200)
        kill_all(server)
        storm.stop()
    at = time.monotonic()
    for synced in before.directory.glob("tasks.db*.synced"):
        if not synced.with_suffix("").exists():
            continue  # a journal of rollbacks, deleted since
        shutil.copy(synced, after.directory / synced.stem)
    syncs = sum(count.stat().st_size for count in before.directory.glob("*.count"))
    shutil.copy(before.journal, after.journal)
    with after.serving(*UVICORN):
        after.wait_until_empty()
    if synchronous == "FULL":
        print(f"\nthe power lost: {judge(storm, after, [at])}; {syncs} times fsync")
        # One a response at most, and some for checkpoints and for the tables.
        assert syncs <= len(storm.answered) + storm.broken + 20
    else:
        assert storm.answered.keys() - after.ended()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.mark.slow
def test_a_clock_that_jumps_keeps_no_task_waiting(tmp_path: Path) -> None:
    """A day ahead or back, between two processes: what waits runs."""
    place = Place(tmp_path)
    for days in (1, -2):
        _leave_behind(place, str(days))
        site = _made(tmp_path / f"site{days}")
        (site / "sitecustomize.py").write_text(
            f"import time\nreal = time.time\ntime.time = lambda: real() + {days} * 86400\n"
        )
        with place.serving(*ONE_PROCESS, PYTHONPATH=str(site)):
            place.wait_until(lambda days=days: str(days) in place.ended())  # type: ignore[misc]


def _leave_behind(place: Place, name: str) -> None:
    """Have a server killed while it runs a task of this name, which ends at once the next time."""
    gate = place.directory / f"gate-{name}"
    with place.serving(*ONE_PROCESS) as server:
        ask(server, f"name={name}&kind=wait&gate={gate}")
        place.wait_until(lambda: name in {line.name for line in place.lines()})
        kill_all(server)
    gate.touch()


@pytest.mark.slow
def test_a_process_that_was_stopped_keeps_its_tasks(tmp_path: Path) -> None:
    """However long it stands still: the lock of the system says that it lives."""
    place = Place(tmp_path)
    gate = tmp_path / "gate"
    with place.serving(*ONE_PROCESS) as stopped:
        ask(stopped, f"name=its-own&kind=wait&gate={gate}")
        place.wait_until(lambda: "its-own" in {line.name for line in place.lines()})
        os.killpg(stopped.process.pid, signal.SIGSTOP)
        gate.touch()
        try:
            with place.serving(*ONE_PROCESS) as other:
                _leave_behind(place, "left")  # that it is run tells that they were looked for
                place.wait_until(lambda: "left" in place.ended())
                assert "its-own" not in place.ended()
                assert other.process.poll() is None
        finally:
            os.killpg(stopped.process.pid, signal.SIGCONT)
        place.wait_until_empty()
    started = Counter(line.name for line in place.lines() if line.kind == "start")
    assert started == {"its-own": 1, "left": 2}


@pytest.mark.parametrize("signal_of", ["SIGTERM", _slow("SIGINT")])
@pytest.mark.parametrize("server", ["gthread", _slow("uvicorn"), _slow("one process")])
def test_what_a_deployment_leaves_over_is_run_by_the_next_process(
    tmp_path: Path, server: str, signal_of: str
) -> None:
    """More tasks than the drain has time for: what has not begun is kept, and not named as lost."""
    place = Place(tmp_path)
    gate = tmp_path / "gate"
    command = {**SERVERS, "one process": ONE_PROCESS}[server]
    names = {f"task-{number}" for number in range(30)}
    with place.serving(*command, TEST_DRAIN_TIMEOUT="0.5") as first:
        for name in names:
            ask(first, f"name={name}&kind=wait&gate={gate}")
        os.kill(first.process.pid, getattr(signal, signal_of))
        first.process.wait(30)
        log = place.log()
    begun = {line.name for line in place.lines()}
    assert begun < names
    assert place.stored.count() == {"waiting": 30, "failed": 0}
    assert "kept in the store" in log, log
    gate.touch()
    with place.serving(*command):
        place.wait_until_empty()
    assert place.ended() == names
    twice = [name for name, times in _starts(place).items() if times > 1]
    assert set(twice) <= begun


def _starts(place: Place) -> Counter[str]:
    return Counter(line.name for line in place.lines() if line.kind == "start")


@pytest.mark.parametrize("server", ["gthread", _slow("uvicorn")])
def test_a_task_that_kills_its_process_is_given_up_and_those_beside_it_run(
    tmp_path: Path, server: str
) -> None:
    """They are no suspects for long: what was met by a crash is tried again by itself."""
    place = Place(tmp_path)
    beside = [f"beside-{number}" for number in range(6)]
    with place.serving(*SERVERS[server]) as it:
        ask(it, *(f"name={name}&seconds=0.5" for name in beside))
        place.wait_until(lambda: len(_starts(place)) > 0)
        ask(it, "name=deadly&kind=kill")
        place.wait_until(lambda: _is_done(place, it))
    (failed,) = place.stored.list("failed")
    assert failed.name == "tests.durable.work.kill"
    assert failed.reason is not None
    assert "processes have ended while they ran it" in failed.reason
    assert place.ended() == set(beside)
    deaths = [line.name for line in place.lines() if line.name.startswith("deadly")]
    assert 3 <= len(deaths) <= 4
    assert len(set(deaths)) == 1, "it is the same task each time"


def _is_done(place: Place, server: Running) -> bool:
    """Whether only the deadly one is left; under WSGI a new process looks once it is asked."""
    with suppress(OSError, Broken, AssertionError):
        ask(server, "name=ping&count=0")
    return place.stored.count() == {"waiting": 0, "failed": 1}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_hundred_thousand_left_behind_are_shared_by_four(tmp_path: Path) -> None:
    """Each is run by one of the processes, once."""
    place, total = Place(tmp_path), 100_000
    left = [sys.executable, "-m", "tests.durable.leave", place.url, str(total)]
    assert subprocess.run(left, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert place.stored.count()["waiting"] == total
    began = time.monotonic()
    command = tuple("4" if part == "2" else part for part in UVICORN)
    with place.serving(*command) as server:
        place.wait_until_empty(patience=300)
        assert server.process.poll() is None
    lines = [line for line in place.lines() if line.kind == "end"]
    assert {line.name for line in lines} == {str(number) for number in range(total)}
    assert len(lines) == total, "once each"
    shares = Counter(line.pid for line in lines)
    print(f"\n{total} tasks in {time.monotonic() - began:.0f} s, by {sorted(shares.values())}")
    assert len(shares) == 4


@pytest.mark.slow
def test_the_file_does_not_grow_with_what_was_run(tmp_path: Path) -> None:
    """What counts is how many wait at a time, not how many there ever were."""
    place = Place(tmp_path, synchronous="NORMAL")
    sizes = []
    with place.serving(*UVICORN) as server:
        for _ in range(5):
            with Storm(server.port, 1500, "&seconds=0"):
                pass
            place.wait_until_empty()
            sizes.append(sum(file.stat().st_size for file in tmp_path.glob("tasks.db*")))
    print(f"\nbytes after each 1500 tasks: {sizes}")
    assert sizes[-1] < 1.2 * sizes[2] + 2**20  # by then the log is as large as it gets
    assert sizes[-1] < 12 * 2**20
